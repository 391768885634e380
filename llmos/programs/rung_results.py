"""What the trials of a process have found at its rungs: kept in its folder, and reported to their search.

So a rung is trained once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmos.abi.process import PAUSED, Progress
from llmos.abi.wire import from_json, to_json
from llmos.programs.channel import Channel
from llmos.programs.trial_outcome import METRIC, failed_key, metric_key

RESULTS = "rung-results.json"


@dataclass(frozen=True, slots=True)
class RungResult:
    """What the `active` trials of a process have found at a rung: `metrics` by number, without those that have failed.

    `trained_s` of `seconds` went to training; both are of the process's life that has reached the rung. `steps` are
    those that the trials have taken in all.
    """

    rung: int
    active: list[int]
    metrics: dict[int, float]
    seconds: float
    trained_s: float
    steps: int


class RungResults:
    """Those of one process, in a file of its scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self._file = scratch / RESULTS

    def at(self, rung: int, active: list[int]) -> RungResult | None:
        """What these trials have found at this rung, if they were there before."""
        return next((one for one in self._all() if (one.rung, one.active) == (rung, active)), None)

    def keep(self, found: RungResult) -> None:
        aside = self._file.with_suffix(".tmp")
        aside.write_bytes(to_json([*self._all(), found]))
        aside.rename(self._file)

    def _all(self) -> list[RungResult]:
        return from_json(self._file.read_bytes(), list[RungResult]) if self._file.exists() else []


def report_rung(channel: Channel, found: RungResult, shares: list[float], metric: str) -> None:
    """The last report of this life, from which the search reads the results; `metric` is what people call it."""
    figures = {"rung": float(found.rung), "seconds": found.seconds, "trained_s": found.trained_s}
    figures |= {"step": float(found.steps)}
    figures |= {metric_key(number): value for number, value in found.metrics.items()}
    figures |= {failed_key(number): 1.0 for number in found.active if number not in found.metrics}
    at = f"at rung {found.rung + 1} of {len(shares)}"
    said = f"{len(found.active)} trials wait {at}"
    if len(found.active) == 1 and found.metrics:
        (value,) = found.metrics.values()
        figures[METRIC] = value  # as any trainer's
        said = f"waits {at}, validation {metric} {value:.4f}"
    print(said, flush=True)
    channel.report(Progress(PAUSED, shares[found.rung], 1.0, "runs", figures, said), is_last=True)
