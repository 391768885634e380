"""Ids of a dataset's rows. The target is no part of an id: a row whose label was corrected keeps it.

Of equal texts, each further one has an id of its own, by how many there were before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmos.abi.row_id import RowHmac, fold_text
from llmos.data.datasets.occurrences import Occurrences
from llmos.data.row import Row
from llmos.data.splits import key_of


def row_id(key: bytes, row: Row, occurrence: int = 0) -> str:
    """The id of a row as 16 hex signs; `occurrence` counts the rows of equal texts before it."""
    return _id_of(RowHmac(key), key_of(row), occurrence)


def text_id(key: bytes, text: str, occurrence: int = 0) -> str:
    """The id of the row with this text, whatever its case, width and white space."""
    return _id_of(RowHmac(key), fold_text(text), occurrence)


class RowIds:
    """Ids of the rows of one dataset, in their order; it keeps 12 bytes for a row, 24 for one of a later split."""

    def __init__(self, key: bytes) -> None:
        self._hmac = RowHmac(key)
        self._seen = Occurrences()
        self._own: Occurrences | None = None  # of the split, if there is an earlier one
        self._has_rows = False
        self.leak_count = 0  # rows of the split whose text is in an earlier one

    def begin_split(self) -> None:
        """What follows are rows of the next split: their texts are looked for in the earlier ones."""
        self._own = Occurrences() if self._has_rows else None
        self.leak_count = 0

    def of(self, rows: Sequence[Row]) -> list[str]:
        """The ids of the next rows. Cheapest for thousands at a time."""
        id_of, twin_of = self._hmac.id_of, self._hmac.twin_of
        first = [id_of(key_of(row)) for row in rows]
        hashes = [int(one, 16) for one in first]
        counts = self._seen.count(hashes)
        self._has_rows = self._has_rows or bool(rows)
        if self._own is not None:
            self.leak_count += sum(all > own for all, own in zip(counts, self._own.count(hashes), strict=True))
        return [twin_of(one, count) if count else one for one, count in zip(first, counts, strict=True)]


def _id_of(hmac: RowHmac, folded: str, occurrence: int) -> str:
    first = hmac.id_of(folded)
    return hmac.twin_of(first, occurrence) if occurrence else first
