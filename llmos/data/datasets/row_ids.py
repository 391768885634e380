"""Ids of rows: HMAC-SHA256 of a row's texts by the home's key, so that who has the text finds the row, and no other.

The target is no part of it: a row whose label was corrected keeps its id. Of equal texts, each further one has an id
of its own, by how many there were before it.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from llmos.data.datasets.occurrences import Occurrences
from llmos.data.row import Row
from llmos.data.splits import fold_text, key_of

ID_BYTES = 8


def row_id(key: bytes, row: Row, occurrence: int = 0) -> str:
    """The id of a row as 16 hex signs; `occurrence` counts the rows of equal texts before it."""
    return _id_of(key, key_of(row), occurrence)


def text_id(key: bytes, text: str) -> str:
    """The id of the first row with this text, whatever its case, width and white space."""
    return _id_of(key, fold_text(text), 0)


class RowIds:
    """Ids of the rows of one dataset, in their order; it keeps about 16 bytes for a row."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._seen = Occurrences()

    def of(self, rows: Sequence[Row]) -> list[str]:
        """The ids of the next rows. Cheapest for thousands at a time."""
        texts = [key_of(row) for row in rows]
        first = [_id_of(self._key, text, 0) for text in texts]
        counts = self._seen.count([int(one, 16) for one in first])
        return [
            _id_of(self._key, text, count) if count else one
            for one, text, count in zip(first, texts, counts, strict=True)
        ]


def _id_of(key: bytes, text: str, occurrence: int) -> str:
    said = f"{text}\0{occurrence}" if occurrence else text
    return hmac.digest(key, said.encode(), "sha256")[:ID_BYTES].hex()
