"""Who runs: pure decisions over what is known, returned as events for the table to apply."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmos.abi.process import Class, Process, Program, State
from llmos.kernel.events import Admitted, Delayed, Event, Evicted
from llmos.kernel.memory import MIB

RANK = {Class.INTERACTIVE: 0, Class.BATCH: 1, Class.BACKGROUND: 2}
RUNNING = frozenset({State.STARTING, State.READY, State.STOPPING})
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 30.0
STARTS_TO_FAIL = 5  # so many deaths in a row before it was ever ready, and a serve process is given up


@dataclass(frozen=True, slots=True)
class Idle:
    """A serve process that no call needs: since when, and the bytes it would give back."""

    pid: int
    since: float
    held_bytes: int


@dataclass(frozen=True, slots=True)
class View:
    """What the decisions are made from."""

    at: float
    queued: Sequence[Process]  # those that may start: none that waits out its backoff
    running: Collection[Process]
    free_bytes: Mapping[str, int]
    leaving_bytes: Mapping[str, int]  # what processes that are stopping will give back
    idle: Sequence[Idle]
    is_probing: bool = False  # the devices' speeds are being measured: whoever depends on them waits
    idle_timeout_s: float = 0.0


def look(view: View) -> list[Event]:
    """All that can be decided now: who starts, who waits for what, and which idle serve process ends."""
    events: list[Event] = []
    free, leaving = dict(view.free_bytes), dict(view.leaving_bytes)
    idle = sorted(view.idle, key=lambda one: one.since)
    training = {p.spec.device: p.pid for p in view.running if p.spec.program is Program.TRAIN and p.state in RUNNING}
    blocked: set[str] = set()
    for process in sorted(view.queued, key=lambda p: (RANK[p.spec.klass], p.pid)):
        device, need = process.spec.device, process.spec.need_bytes
        is_training = process.spec.program is Program.TRAIN
        if view.is_probing and process.spec.program is not Program.PROBE:
            events.append(Delayed(view.at, process.pid, "waits until the devices are measured"))
        elif is_training and device in training:
            events.append(Delayed(view.at, process.pid, f"waits for pid {training[device]}, which trains on {device}"))
        elif device in blocked:
            events.append(Delayed(view.at, process.pid, f"waits for memory of {device}, behind others"))
        elif need <= free.get(device, 0):
            events.append(Admitted(view.at, process.pid))
            free[device] -= need
            if is_training:
                training[device] = process.pid
        else:
            blocked.add(device)
            missing = need - free.get(device, 0) - leaving.get(device, 0)
            victims = coldest(idle, missing) if missing > 0 else []
            idle = [one for one in idle if one not in victims]
            leaving[device] = leaving.get(device, 0) + sum(victim.held_bytes for victim in victims)
            events += [Evicted(view.at, victim.pid, f"room for pid {process.pid}") for victim in victims]
            events.append(Delayed(view.at, process.pid, _needs(process, free.get(device, 0))))
    return events + _unused(view, idle)


def coldest(idle: Iterable[Idle], at_least_bytes: int) -> list[Idle]:
    """The longest-unused processes that together hold so many bytes, or none if all of them do not."""
    chosen: list[Idle] = []
    for one in idle:
        chosen.append(one)
        at_least_bytes -= one.held_bytes
        if at_least_bytes <= 0:
            return chosen
    return []


def backoff_s(crashes: int) -> float:
    """How long a serve process waits before it is started again after so many crashes in a row."""
    return float(min(FIRST_BACKOFF_S * 2 ** (min(crashes, 20) - 1), LONGEST_BACKOFF_S))


def _unused(view: View, idle: Sequence[Idle]) -> list[Event]:
    if view.idle_timeout_s <= 0:
        return []
    return [
        Evicted(view.at, one.pid, f"no call for {view.idle_timeout_s:.0f} s")
        for one in idle
        if view.at - one.since >= view.idle_timeout_s
    ]


def _needs(process: Process, free_bytes: int) -> str:
    need, free = process.spec.need_bytes / MIB, max(free_bytes, 0) / MIB
    return f"waits for memory of {process.spec.device}: needs {need:,.0f} MiB, free are {free:,.0f} MiB"
