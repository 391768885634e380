"""Usage: how many calls, errors and tokens each key had of each model on each day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from llmos.abi.call_record import DAY
from llmos.abi.error import BadInput

MOST_ROWS = 10_000  # of one answer


class UsagePart(StrEnum):
    """What usage is added up by."""

    DAY = "day"
    KEY = "key"
    MODEL = "model"


ALL_PARTS = tuple(UsagePart)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used. `day` is one of UTC; `key` is the id of a key, empty for calls without one.

    A part that was not asked for is empty: then the row is the sum over it. `errors` are the requests among them that
    did not end well; a client that left is one.
    """

    day: str = ""
    key: str = ""
    model: str = ""
    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which usage is meant: days from `since` to `until`, both included; of a key; of a version, or of a name."""

    by: tuple[UsagePart, ...] = ALL_PARTS
    since: str = ""
    until: str = ""
    key: str = ""
    model: str = ""
    limit: int = MOST_ROWS


def usage_parts(words: Sequence[str]) -> tuple[UsagePart, ...]:
    """The parts of these words, in which commas separate several; none: all of them. BadInput for another word."""
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    for name in names:
        if name not in ALL_PARTS:
            raise BadInput(f"by={name[:40]!r}: expected some of {', '.join(ALL_PARTS)}", key="by")
    return tuple(dict.fromkeys(map(UsagePart, names))) or ALL_PARTS


def check_day(name: str, day: str) -> str:
    """The day, if it is empty or written as 2026-01-31; BadInput otherwise."""
    if day and not DAY.fullmatch(day):
        raise BadInput(f"{name}={day[:40]!r}: expected a day such as 2026-01-31", key=name)
    return day
