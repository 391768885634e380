"""Heartbeats: which children have stopped responding, and which of them to replace. It decides only.

Time is counted in ticks of bounded length: a daemon that stood still, or a machine that slept, has heard nobody, and
that is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from llmos.abi.frame import Beat, FromChild
from llmos.abi.process import Priority, Process, State
from llmos.kernel import events as ev
from llmos.kernel.events import Event
from llmos.kernel.processes.process_runtime import ALIVE
from llmos.kernel.programs import traits_of

TICK_S = 1.0
LONGEST_TICK_S = 2.0
NOTICED_AFTER_S = 5.0  # a child beats once a second
LOADING = 4.0  # so many times as long may a child be silent that loads its base: code it imports may hold all threads


@dataclass(slots=True)
class LastHeard:
    """What was heard of one child."""

    os_pid: int
    silent_s: float = 0.0
    beat: Beat = field(default_factory=Beat)
    is_given_up: bool = False


class Heartbeats:
    """`is_stopped` says of an os_pid that a signal has stopped it."""

    def __init__(self, timeout_s: float, call_timeout_s: float, is_stopped: Callable[[int], bool]) -> None:
        self._timeout_s = timeout_s
        self._call_timeout_s = call_timeout_s
        self._is_stopped = is_stopped
        self._heard: dict[int, LastHeard] = {}

    def hear(self, pid: int, frame: FromChild) -> None:
        """A child has said something, whatever it is."""
        heard = self._heard.get(pid)
        if heard is not None:
            heard.silent_s = 0.0
            heard.beat = frame if isinstance(frame, Beat) else Beat()  # whoever says more has moved on

    def tick(self, at: float, elapsed_s: float, processes: Iterable[Process]) -> list[Event]:
        """So much time has gone by: who has fallen silent, who is heard again, who is to be ended."""
        known, self._heard = self._heard, {}
        events: list[Event] = []
        for process in processes:
            if process.state not in ALIVE or process.state is State.SUSPENDED or process.os_pid is None:
                continue
            heard = known.get(process.pid)
            if heard is None or heard.os_pid != process.os_pid:
                heard = LastHeard(process.os_pid, -LONGEST_TICK_S)  # it was born, or woken, a moment ago
            heard.silent_s += min(elapsed_s, LONGEST_TICK_S)
            self._heard[process.pid] = heard
            events += self._judge(at, process, heard)
        return events

    def _judge(self, at: float, process: Process, heard: LastHeard) -> list[Event]:
        quiet_s = max(heard.silent_s, _standing_still_s(process, heard.beat))
        is_noticed = process.unresponsive_since is not None
        events: list[Event] = []
        if quiet_s >= NOTICED_AFTER_S and not is_noticed:
            events.append(ev.Unresponsive(at, process.pid, heard.os_pid, at - quiet_s))
        elif quiet_s < NOTICED_AFTER_S and is_noticed:
            events.append(ev.Responsive(at, process.pid, heard.os_pid))
        why = "" if heard.is_given_up else self._why_to_end(process, heard, quiet_s)
        if why:
            heard.is_given_up = True
            events.append(ev.Hung(at, process.pid, heard.os_pid, why))
        return events

    def _why_to_end(self, process: Process, heard: LastHeard, quiet_s: float) -> str:
        """Why this process is to be ended now; nothing if it is not."""
        may_be = traits_of(process.spec.program).is_replaced_when_hung and process.state in (
            State.STARTING,
            State.READY,
        )
        if not may_be or self._timeout_s <= 0:
            return ""
        if quiet_s >= self._timeout_s and self._is_stopped(heard.os_pid):
            return f"a signal had stopped it {quiet_s:.0f} s ago, so that it was ended"
        if process.spec.priority is Priority.BACKGROUND:  # it has no processor while others compute
            return ""
        if quiet_s >= self._timeout_s * (LOADING if process.state is State.STARTING else 1.0):
            return f"it had not responded for {quiet_s:.0f} s, and was ended"
        if process.state is State.READY and heard.beat.stuck_s >= self._call_timeout_s + self._timeout_s:
            return f"it had computed one step for {heard.beat.stuck_s:.0f} s, longer than any call waits, and was ended"
        return ""


def _standing_still_s(process: Process, beat: Beat) -> float:
    """How long a serve process's loop has been at one step without computing or reading anything."""
    if not traits_of(process.spec.program).answers_calls or process.state is not State.READY:
        return 0.0
    return min(beat.stuck_s, beat.still_s)
