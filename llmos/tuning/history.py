"""The history of a search: what was begun and what came of it, folded from the records of its journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from llmos.abi.json_type import Json


@dataclass(frozen=True, slots=True)
class Begun:
    """A trial with these settings is to reach the first rung.

    Trials that are trained together, in one process, have the first one's number as their `pack`.
    """

    trial: int
    settings: dict[str, Json]
    pack: int | None = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """A trial that waits at a rung is to reach the next one."""

    trial: int
    rung: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """This trial is the best: it becomes a candidate, measured on the test rows."""

    trial: int


@dataclass(frozen=True, slots=True)
class Reached:
    """A trial has reached a rung. `metric` is that of the validation rows, `trained_s` of `seconds` went to training.

    Both are what this rung took.
    """

    trial: int
    rung: int
    metric: float
    seconds: float
    trained_s: float


@dataclass(frozen=True, slots=True)
class Dropped:
    """A trial ends without a further result: it failed, or somebody ended it. `word` is failed or stopped."""

    trial: int
    word: str
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class VersionMade:
    """The chosen trial is in the store under this ref."""

    trial: int
    ref: str
    summary: str = ""


Record = Begun | Advanced | Chosen | Reached | Dropped | VersionMade
Decision = Begun | Advanced | Chosen
KINDS: dict[str, type[Record]] = {
    one.__name__.lower(): one for one in (Begun, Advanced, Chosen, Reached, Dropped, VersionMade)
}


@dataclass(frozen=True, slots=True)
class History:
    """All records of a search, by what they say. `pending` are the decisions whose outcome is not known yet."""

    settings: dict[int, dict[str, Json]] = field(default_factory=dict)
    results: dict[tuple[int, int], Reached] = field(default_factory=dict)
    dropped: dict[int, Dropped] = field(default_factory=dict)
    chosen: int | None = None
    made: VersionMade | None = None
    pending: tuple[Decision, ...] = ()
    packs: dict[int, int] = field(default_factory=dict)

    @property
    def spent_s(self) -> float:
        """The seconds that all trials have taken together."""
        return sum(one.seconds for one in self.results.values()) + sum(one.seconds for one in self.dropped.values())

    def at(self, rung: int) -> list[Reached]:
        """The results at this rung, best first; of equal ones the earlier trial."""
        found = [one for one in self.results.values() if one.rung == rung]
        return sorted(found, key=lambda one: (-one.metric, one.trial))

    def rungs_of(self, trial: int) -> list[Reached]:
        """The results of a trial, by rung."""
        return sorted((one for one in self.results.values() if one.trial == trial), key=lambda one: one.rung)


def history_of(records: Iterable[Record]) -> History:
    """The history that these records tell, in their order."""
    settings: dict[int, dict[str, Json]] = {}
    results: dict[tuple[int, int], Reached] = {}
    dropped: dict[int, Dropped] = {}
    chosen: int | None = None
    made: VersionMade | None = None
    pending: dict[int, Decision] = {}
    packs: dict[int, int] = {}
    for record in records:
        match record:
            case Begun():
                settings[record.trial], pending[record.trial] = record.settings, record
                if record.pack is not None:
                    packs[record.trial] = record.pack
            case Advanced():
                pending[record.trial] = record
            case Chosen():
                chosen, pending[record.trial] = record.trial, record
            case Reached():
                results[record.trial, record.rung] = record
            case Dropped():
                dropped[record.trial] = record
                chosen = None if chosen == record.trial else chosen
            case VersionMade():
                made = record
        if isinstance(record, Reached | Dropped | VersionMade):
            pending.pop(record.trial, None)
    return History(settings, results, dropped, chosen, made, tuple(pending.values()), packs)
