"""A finding of a check: rows by their ids, what is wrong with them, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from llmos.abi.json_type import Json

EXAMPLES = 5
MOST_SHOWN = 160  # characters of a text that is shown


class Severity(IntEnum):
    """How bad a finding is: an error makes figures wrong, a warning makes a model worse, a note is good to know."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row whose label may be wrong: what it says, what is likelier, and how much (0 to 1).

    `words` are the numbers of the words in question for tags; `suggestion` then is the tags of the whole sentence.
    """

    row_id: str
    given: str
    suggestion: str
    score: float
    words: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """`row_ids` are the rows that a fix would change, `counts` figures by name, `examples` a few rows to look at.

    `fixes` are the ways to mend it: drop, relabel. Personal data is masked in all texts.
    """

    kind: str
    severity: Severity
    sentence: str
    row_ids: tuple[str, ...] = ()
    counts: Mapping[str, Json] = field(default_factory=dict)
    examples: tuple[Mapping[str, Json], ...] = ()
    fixes: tuple[str, ...] = ()
    suspects: tuple[Suspect, ...] = ()
