"""Turns frames and exits of children into events; chunks of answers go straight to the router."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable

from llmos.abi.frame import (
    Attached,
    AttachFailed,
    Beat,
    Chunks,
    Computed,
    Detached,
    Failed,
    FromChild,
    Offered,
    Probed,
    Ready,
    Report,
    TakenIn,
    TakesIn,
    UsageReport,
)
from llmos.abi.note import open_note, read
from llmos.kernel import events as ev
from llmos.kernel.calls.router import Router
from llmos.kernel.processes.child_events import is_own_fault

log = logging.getLogger(__name__)


class FrameListener:
    """Turns frames into events."""

    def __init__(
        self,
        router: Router,
        post: Callable[[ev.Event], None],
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._router = router
        self._post = post
        self._clock = clock
        self._steady = steady
        self._ready_at: dict[int, float] = {}
        self._notes: dict[int, mmap.mmap] = {}  # what each serve process was taking in at last

    def ended(self, pid: int, os_pid: int, code: int) -> None:
        note = self._notes.pop(pid, None)
        taking_in = () if note is None or not is_own_fault(code) else read(note)
        ready_at = self._ready_at.pop(pid, None)
        ready_s = None if ready_at is None else self._steady() - ready_at
        self._post(ev.ChildExited(self._clock(), pid, os_pid, code, ready_s=ready_s, taking_in=taking_in))

    def _open_note(self, pid: int, os_pid: int, fd: int) -> None:
        try:
            self._notes[pid] = open_note(os_pid, fd)
        except OSError as error:  # it ends without one: its calls are sent again, as those of any that dies
            log.warning("the note of pid %s cannot be read: %s", pid, error)

    def heard(self, pid: int, frame: FromChild) -> None:
        now = self._clock()
        match frame:
            case Chunks(chunks):
                self._router.answered(chunks)
            case Computed(call_id, share):
                self._router.computed(call_id, share)
            case TakenIn(call_id):
                self._router.taken_in(call_id)
            case TakesIn(os_pid, fd):
                self._open_note(pid, os_pid, fd)
            case AttachFailed(model, fault):
                self._router.attach_failed(pid, model, fault)
                self._post(ev.Detached(now, pid, model))
            case Attached(model, took_s):
                self._post(ev.Attached(now, pid, model, took_s))
            case Detached(model):
                self._post(ev.Detached(now, pid, model))
            case Ready(weights):
                self._ready_at[pid] = self._steady()
                self._post(ev.BecameReady(now, pid, weights))
            case Report(progress):
                self._post(ev.Progressed(now, pid, progress))
            case UsageReport(usage):
                self._post(ev.Metered(now, pid, usage))
            case Failed(fault):
                self._post(ev.ChildFailed(now, pid, fault))
            case Offered(offer):
                self._post(ev.OfferMade(now, pid, offer))
            case Beat():
                pass  # that it came is all it says here
            case Probed(devices):
                self._post(ev.DevicesProbed(now, pid, devices))
