"""Standing orders to learn from feedback, and what becomes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from llmos.abi.error import BadSetting
from llmos.abi.gate import LEARNING_POLICY
from llmos.abi.json_type import Json

FEEDBACK = "feedback"  # what models learn from
WHEN = re.compile(r"(\d{1,9})\s*rows?(?P<drift>\s+or\s+drift)?", re.IGNORECASE)
LEAST_ROWS = 10
OPERATION = "feedback"  # of the dataset versions that are made for it, in their provenance


@dataclass(frozen=True, slots=True)
class LearnOrder:
    """Train the model of this name again whenever so many further rows of feedback have come.

    `upto` is the last row that a training has been begun with, whatever came of it. With `on_drift`, an alarm of the
    name's monitor is enough too, once `LEAST_ROWS` rows wait; `drifted_at` is the newest such alarm.
    """

    name: str
    rows: int
    upto: int = 0
    on_drift: bool = False
    drifted_at: float = 0.0

    @property
    def least(self) -> int:
        """How many rows must wait now."""
        return min(self.rows, LEAST_ROWS) if self.on_drift and self.drifted_at else self.rows

    @property
    def when(self) -> str:
        """As it was given; empty if it has ended."""
        return f"{self.rows} rows{' or drift' if self.on_drift else ''}" if self.rows else ""


@dataclass(frozen=True, slots=True)
class LearnStep:
    """One training by an order: rows of feedback learned and held out, and the version with the gate's word on it."""

    dataset: str
    at: str
    rows: int
    held_out: int
    left_out: dict[str, int]
    ref: str = ""
    is_promoted: bool = False
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class LearningState:
    """A model's order (`when` is empty if there is none), the rows that wait, and its steps, the newest first.

    Process `pid` is at work on it. `gate` is what a new version must meet.
    """

    name: str
    when: str = ""
    rows: int = 0
    waiting: int = 0
    agreed: int = 0
    known: int = 0
    pid: int | None = None
    steps: tuple[LearnStep, ...] = ()
    gate: tuple[str, ...] = LEARNING_POLICY.require


def rows_in(when: str) -> tuple[int, bool]:
    """How many rows "200 rows or drift" says, and whether drift is enough; BadSetting for what cannot be waited for."""
    found = WHEN.fullmatch(when.strip())
    if found is None:
        raise BadSetting(
            f"when is {when[:80]!r}; it must be such as '200 rows' or '200 rows or drift'", key="when", value=when[:80]
        )
    rows = int(found[1])
    if rows < LEAST_ROWS:
        raise BadSetting(f"when is {when[:80]!r}; {LEAST_ROWS} rows are the fewest", key="when", value=when[:80])
    return rows, found["drift"] is not None


def dataset_name(name: str) -> str:
    """The name of the datasets that feedback on this model becomes."""
    return f"{name}-{FEEDBACK}"


def operation_of(provenance: dict[str, Any]) -> dict[str, Json] | None:
    """What made a version of such a dataset: root, last row, counts; None if something else made it."""
    found = provenance.get("operation")
    return found if isinstance(found, dict) and found.get("operation") == OPERATION else None
