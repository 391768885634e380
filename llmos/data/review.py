"""What annotators said of whole rows: those that they rejected or passed over are left out, and counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from llmos.abi.json_type import Json
from llmos.data.table import Record, Table

# By column: the values that leave a row out, with the reason, the values that keep it, and those of which one must
# occur. A column with any other value is no review: an `answer` may answer a question, a `status` be a ticket's.
REVIEWS: Mapping[str, tuple[Mapping[str, str], frozenset[str], frozenset[str]]] = {
    "answer": ({"reject": "rejected", "ignore": "ignored"}, frozenset({"accept"}), frozenset({"accept", "reject"})),
    "was_cancelled": ({"true": "cancelled"}, frozenset({"false"}), frozenset({"true", "false"})),
    "status": (
        {"discarded": "discarded", "draft": "unfinished", "pending": "unfinished"},
        frozenset({"submitted", "completed"}),
        frozenset({"submitted", "discarded"}),
    ),
}  # of Prodigy, Label Studio and Argilla


@dataclass(frozen=True, slots=True)
class Review:
    """The column of a table that says which rows count."""

    at: int
    reasons: Mapping[str, str]

    def reason(self, record: Record) -> str:
        """Why this row is left out; empty if it is not."""
        return self.reasons.get(_value(record.cells[self.at]), "")


def review_of(table: Table, used: Collection[int]) -> Review | None:
    """The table's column of reviews, by its name and by every value in the sample; none that rows are read from."""
    for at, name in enumerate(table.names):
        if at in used or name.lower() not in REVIEWS:
            continue
        reasons, kept, marks = REVIEWS[name.lower()]
        values = {_value(cell) for cell in table.column(at)} - {""}
        if values & marks and values <= reasons.keys() | kept:
            return Review(at, reasons)
    return None


def _value(cell: Json) -> str:
    return "" if cell is None else str(cell).strip().lower()
