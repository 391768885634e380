"""A relay: trainings, each in a process of its own, take turns of a few seconds, so that drift falls on all alike.

A runner blocks at the end of a step when its lap is over, and goes on when the baton comes back: one runs at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from bench.stop import Stop

LAP_S = 4.0
Work = Any  # Any: what the runners are to do; relay only hands it on
Result = Any  # Any: whatever a runner returns


@dataclass(frozen=True, slots=True)
class Lap:
    """One turn of one runner."""

    examples: int
    seconds: float
    is_last: bool = False

    @property
    def rate(self) -> float:
        return self.examples / self.seconds


@dataclass(slots=True)
class Track:
    """What one runner did."""

    laps: list[Lap] = field(default_factory=list)
    result: Result = None

    @property
    def steady(self) -> list[Lap]:
        """The laps that count: less the first, which warms up, unless there is hardly any other."""
        return self.laps[1:] if len(self.laps) > 2 else self.laps


def rate(laps: Sequence[Lap]) -> float:
    """Examples a second over these laps together."""
    return sum(lap.examples for lap in laps) / sum(lap.seconds for lap in laps)


class Baton:
    """The runner's hold on its turn: `start` before its first step, `step` after each, `stop` after the last."""

    def __init__(self, connection: Connection, lap_s: float) -> None:
        self._connection = connection
        self._lap_s = lap_s
        self._examples = 0
        self._since = 0.0

    def start(self) -> None:
        self._connection.send("ready")
        self._wait()

    def step(self, examples: int) -> None:
        self._examples += examples
        if time.perf_counter() - self._since >= self._lap_s:
            self._hand_over(is_last=False)
            self._wait()

    def stop(self) -> None:
        """The last lap ends here; what follows (evaluating, saving) is in nobody's time."""
        self._hand_over(is_last=True)

    def _hand_over(self, *, is_last: bool) -> None:
        self._connection.send(Lap(self._examples, time.perf_counter() - self._since, is_last))
        self._examples = 0

    def _wait(self) -> None:
        self._connection.recv()
        self._since = time.perf_counter()


Runner = Callable[[Baton, Work], Result]


def relay(runners: Mapping[str, Runner], work: Work, lap_s: float = LAP_S) -> dict[str, Track]:
    """Run all of them to their ends on the same work; Stop if one breaks off."""
    running = {name: _start_runner(name, runner, work, lap_s) for name, runner in runners.items()}
    tracks = {name: Track() for name in runners}
    while running:
        for name, end in list(running.items()):
            end.send("go")
            lap = _heard(name, end)
            if lap.examples:
                tracks[name].laps.append(lap)
            if lap.is_last:
                tracks[name].result = _heard(name, end)
                del running[name]
    return tracks


def _start_runner(name: str, runner: Runner, work: Work, lap_s: float) -> Connection:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=_run, args=(runner, theirs, work, lap_s), name=name, daemon=True).start()
    theirs.close()
    _heard(name, ours)  # it has loaded, and waits for its turn
    return ours


def _run(runner: Runner, connection: Connection, work: Work, lap_s: float) -> None:
    connection.send(runner(Baton(connection, lap_s), work))


def _heard(name: str, connection: Connection) -> Any:  # Any: a word, a Lap or a Result, as the turn has it
    try:
        return connection.recv()
    except EOFError:
        raise Stop(f"{name} broke off; its own words stand above") from None
