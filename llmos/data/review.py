"""What annotators said of whole rows: those that they rejected or passed over are left out, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmos.abi.json_type import Json
from llmos.data.table import Record, Table

# By column: the values that leave a row out, with the reason, and the values that keep it. A column with any other
# value is no review (an `answer` may be the answer to a question).
REVIEWS: Mapping[str, tuple[Mapping[str, str], frozenset[str]]] = {
    "answer": ({"reject": "rejected", "ignore": "ignored"}, frozenset({"accept"})),  # Prodigy
    "was_cancelled": ({"true": "cancelled"}, frozenset({"false"})),  # Label Studio
    "status": (
        {"discarded": "discarded", "draft": "unfinished", "pending": "unfinished"},
        frozenset({"submitted", "completed"}),
    ),  # Argilla
}


@dataclass(frozen=True, slots=True)
class Review:
    """The column of a table that says which rows count."""

    at: int
    reasons: Mapping[str, str]

    def reason(self, record: Record) -> str:
        """Why this row is left out; empty if it is not."""
        return self.reasons.get(_value(record.cells[self.at]), "")


def review_of(table: Table) -> Review | None:
    """The table's column of reviews, by its name and by every value in the sample."""
    if not table.has_names:
        return None
    for at, name in enumerate(table.names):
        reasons, kept = REVIEWS.get(name.lower(), ({}, frozenset()))
        values = {_value(cell) for cell in table.column(at)} - {""}
        if reasons and values and values <= reasons.keys() | kept:
            return Review(at, reasons)
    return None


def _value(cell: Json) -> str:
    return "" if cell is None else str(cell).strip().lower()
