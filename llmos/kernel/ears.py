"""The loop's ears: what children say and how they end, as events; answers to calls go straight to who waits."""

from __future__ import annotations

from collections.abc import Callable

from llmos.abi.frame import (
    Answer,
    Attached,
    AttachFailed,
    Beat,
    Computed,
    Detached,
    Failed,
    Offered,
    Probed,
    Ready,
    Report,
    Spent,
    Up,
)
from llmos.kernel import events as ev
from llmos.kernel.network import Network


class Ears:
    """Turns frames into events."""

    def __init__(self, network: Network, post: Callable[[ev.Event], None], clock: Callable[[], float]) -> None:
        self._network = network
        self._post = post
        self._clock = clock

    def ended(self, pid: int, os_pid: int, code: int) -> None:
        self._post(ev.ChildExited(self._clock(), pid, os_pid, code))

    def heard(self, pid: int, frame: Up) -> None:
        now = self._clock()
        match frame:
            case Answer(chunks):
                self._network.answered(chunks)
            case Computed(call_id, share):
                self._network.computed(call_id, share)
            case AttachFailed(model, fault):
                self._network.attach_failed(pid, model, fault)
                self._post(ev.Detached(now, pid, model))
            case Attached(model, took_s):
                self._post(ev.Attached(now, pid, model, took_s))
            case Detached(model):
                self._post(ev.Detached(now, pid, model))
            case Ready(weights):
                self._post(ev.BecameReady(now, pid, weights))
            case Report(progress):
                self._post(ev.Progressed(now, pid, progress))
            case Spent(usage):
                self._post(ev.Metered(now, pid, usage))
            case Failed(fault):
                self._post(ev.ChildFailed(now, pid, fault))
            case Offered(offer):
                self._post(ev.OfferMade(now, pid, offer))
            case Beat():
                pass  # that it came is all it says here
            case Probed(devices):
                self._post(ev.DevicesProbed(now, pid, devices))
