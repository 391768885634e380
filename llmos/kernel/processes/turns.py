"""Time sharing of memory: where models or bases in use do not fit together, the longest loaded one gives way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from llmos.kernel.calls.call_queue import PATIENCE_S, ServeProcess

STAYS_S = 1.0  # a model answers calls at least this long before it must make room
BASE_WAITS_S = 5.0  # calls of a base wait this long before another base's process is ended for it
BASE_STAYS_S = 10.0  # how long that process must have served, or LOADS_STAYED times its loading time if longer
LOADS_STAYED = 4
LONGEST_STAY_S = 30.0
DRAINS_S = 30.0  # after this long a drain is given up, and the process serves for another stay


@dataclass(frozen=True, slots=True)
class Holding:
    """What a ready serve process holds, and how long loading it took."""

    held_bytes: int
    load_s: float

    @property
    def stays_s(self) -> float:
        return min(max(BASE_STAYS_S, LOADS_STAYED * self.load_s), LONGEST_STAY_S)


@dataclass(frozen=True, slots=True)
class Crowd:
    """The queued serve processes with the bytes that each lacks, in start order, and the ready ones."""

    missing_bytes: Mapping[int, int] = field(default_factory=dict)
    holding: Mapping[int, Holding] = field(default_factory=dict)


NOBODY = Crowd()


def model_to_yield(servers: Collection[ServeProcess], now: float) -> tuple[ServeProcess, str] | None:
    """The model that must yield on a device, if another one waits there: the longest attached one."""
    waited = [server.asked_at[model] for server in servers for model in server.wanted_models()]
    is_leaving = any(server.sent_of[model] for server in servers for model in server.yielding)
    if not waited or is_leaving or now - min(waited) < STAYS_S:
        return None
    stayed = [
        (came_at, server.pid, model, server)
        for server in servers
        for model, came_at in server.came_at.items()
        if model not in server.yielding and server.calls_of[model] and now - came_at >= STAYS_S
    ]
    if not stayed:
        return None
    _, _, model, server = min(stayed, key=lambda one: one[:3])
    return server, model


def bases_to_yield(servers: Collection[ServeProcess], crowd: Crowd, now: float) -> set[int]:
    """The serve processes that must yield, by pid: on each device for the first of the queue.

    They yield once calls of a queued process have waited long enough. The longest serving ones go first, as many as
    make enough room; none if that is not enough. The scheduler has evicted idle processes before, so their memory
    counts as free.
    """
    by_pid = {server.pid: server for server in servers}
    queued = [by_pid[pid] for pid in crowd.missing_bytes if pid in by_pid]
    chosen: set[int] = set()
    for device in {server.device for server in queued if _waited_s(server, now) >= BASE_WAITS_S}:
        first = next(server for server in queued if server.device == device)
        here = [server for server in servers if server.device == device]
        missing = crowd.missing_bytes[first.pid]
        missing -= sum(crowd.holding[one.pid].held_bytes for one in here if _is_idle(one, crowd))
        chosen |= _enough(missing, (one for one in here if _has_stayed(one, crowd, now)), crowd)
    return chosen


def _enough(missing_bytes: int, servers: Iterable[ServeProcess], crowd: Crowd) -> set[int]:
    found: set[int] = set()
    for server in sorted(servers, key=lambda one: (not one.is_yielding, one.stays_since, one.pid)):
        if missing_bytes <= 0:
            break
        found.add(server.pid)
        missing_bytes -= crowd.holding[server.pid].held_bytes
    return found if missing_bytes <= 0 else set()


def _waited_s(server: ServeProcess, now: float) -> float:
    """How long its calls have waited, less the patience of lower priorities."""
    return max((now - one.since - PATIENCE_S[one.call.priority] for one in server.waiting), default=0.0)


def _is_idle(server: ServeProcess, crowd: Crowd) -> bool:
    return server.is_ready and server.pid in crowd.holding and not server.calls_of


def _has_stayed(server: ServeProcess, crowd: Crowd, now: float) -> bool:
    if not server.is_ready or server.pid not in crowd.holding or not server.calls_of:
        return False
    return server.is_yielding or now - server.stays_since >= crowd.holding[server.pid].stays_s
