"""Second opinions: rows that others have answered and one person has not, in random order, without suggestions.

How far two people agree can be told only of rows that both have answered on their own.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from typing import Any

from llmos.data.datasets.stored_row import StoredRow
from llmos.data.labelling.answers import ANSWERS

Stored = StoredRow[Any]  # Any: a row of the task's family


def waits_for(stored: Stored, by: str) -> bool:
    """Whether others gave the row a value, and this person has not answered it."""
    said = [one for one in stored.extra.get(ANSWERS) or () if isinstance(one, dict)]
    return any(one.get("value") is not None for one in said) and all(one.get("by") != by for one in said)


def second_opinions(
    rows: Iterable[Stored], by: str, without: Collection[str], count: int, seed: int
) -> tuple[list[Stored], int]:
    """So many of the rows that wait for this person, any of them, and how many wait in all."""
    waiting = [one for one in rows if one.id not in without and waits_for(one, by)]
    chosen = random.Random(f"{seed} second opinion").sample(waiting, min(count, len(waiting)))
    return chosen, len(waiting)
