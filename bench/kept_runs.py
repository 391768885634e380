"""Runs through the bench's daemon, whose results are kept in its home: a bench that was stopped goes on.

So does the run that it had begun.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bench.stop import Stop
from llmos.abi.json_type import Json

Result = TypeVar("Result")

POLL_S = 1.0
ENDED = ("exited", "interrupted")


class Asking(Protocol):
    """A daemon, asked over HTTP."""

    def ask(self, method: str, path: str, body: Json = None) -> Json: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric on the test rows, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(slots=True)
class RunClock:
    """What a run has taken while a bench watched it: seconds by the clock, and of processor time, its children's too.

    `cpu_s` has the processor time of each life of a process. A daemon of a bench ends with it, so that nothing works
    unseen.
    """

    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def all_cpu_s(self) -> float:
        return sum(self.cpu_s.values())

    def see(self, process: Json) -> None:
        """Note the processor time of this life of a process."""
        life = f"{process['pid']} from {process.get('started_at')}"
        self.cpu_s[life] = max(self.cpu_s.get(life, 0.0), float(process["usage"]["cpu_s"]))


def kept(file: Path, kind: type[Result], make: Callable[[], Result]) -> Result:
    """The result, a flat dataclass, that is kept in this file, or the one that is made now."""
    if not file.exists():
        _write(file, asdict(make()))  # type: ignore[call-overload]  # it is a dataclass
    return kind(**json.loads(file.read_text()))


def run(
    box: Asking, program: str, args: dict[str, Json], *, priority: str, clock: Path | None = None
) -> tuple[Json, RunClock]:
    """The process of this program once it has ended well, and what it took; Stop, with the reason, if it failed.

    One with these arguments that an earlier bench left interrupted goes on, and so does its clock, kept in this file.
    """
    pid, taken = _begun(box, program, args), RunClock()
    if pid is None:
        pid = box.ask("POST", "/v1/processes", {"program": program, "args": args, "priority": priority})["pid"]
    elif clock is not None and clock.exists():
        taken = RunClock(**json.loads(clock.read_text()))
    return wait(box, pid, taken, clock), taken


def wait(box: Asking, pid: int, taken: RunClock | None = None, clock: Path | None = None) -> Json:
    """The process once it has ended well; Stop, with the reason, if it failed."""
    taken = RunClock() if taken is None else taken
    before, began = taken.seconds, time.monotonic()
    while True:
        process = box.ask("GET", f"/v1/processes/{pid}")
        is_ended = process["state"] in ENDED
        taken.seconds = before + time.monotonic() - began
        if clock is not None:
            for one in (process, *_children(box, pid)):
                taken.see(one)
            _write(clock, asdict(taken))
        if is_ended:
            break
        time.sleep(POLL_S)
    if process["exit_code"] != 0:
        raise Stop(f"process {pid} failed: {process.get('reason') or process.get('fault')}")
    return process


def version_of(box: Asking, process: Json) -> Json:
    """The version that this process has made."""
    return box.ask("GET", f"/v1/models/{next(ref for ref in process['made'] if ':' in ref)}")


def measured(version: Json, metric: str) -> Measured:
    """What the evidence of a version says of its metric."""
    evidence = version["evidence"]
    ends = evidence["intervals"][metric]
    return Measured(evidence["metrics"][metric], ends["low"], ends["high"])


def _begun(box: Asking, program: str, args: dict[str, Json]) -> int | None:
    """The process with these arguments that an earlier bench left interrupted, resumed; None if there is none."""
    for process in box.ask("GET", "/v1/processes")["data"]:
        spec = process["spec"]
        is_same = spec["program"] == program and all(spec["args"].get(key) == value for key, value in args.items())
        if process["state"] == "interrupted" and is_same:
            box.ask("POST", f"/v1/processes/{process['pid']}/resume")
            return int(process["pid"])
    return None


def _children(box: Asking, pid: int) -> list[Json]:
    every: list[Json] = box.ask("GET", "/v1/processes")["data"]
    return [one for one in every if one["spec"].get("parent") == pid]


def _write(file: Path, what: Any) -> None:  # Any: plain JSON
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".tmp")
    aside.write_text(json.dumps(what))
    aside.replace(file)
