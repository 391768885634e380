"""Calls on their way: which serve process holds which, who waits for it, and what becomes of it when a process dies.

Calls are not journalled. Every call gets an answer: its chunks, or the fault of what stopped it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from llmos.abi.call import Call, Chunk
from llmos.abi.error import Fault, LlmosError, ProcessDied, fault_of
from llmos.abi.frame import Ask, Cancel, Detach, Down
from llmos.kernel.eviction import Rest, Use

CRASHES_TO_GIVE_UP = 3  # a call that was in hand in so many deaths of its process is not sent again
CRASHES_TO_SUSPECT = 2  # from so many on it is sent alone, so that it takes no innocent call with it


@dataclass(slots=True, eq=False)
class Open:
    """A call somebody waits for."""

    call: Call
    pid: int
    chunks: asyncio.Queue[Chunk] = field(default_factory=asyncio.Queue)
    is_sent: bool = False
    has_begun: bool = False  # a piece of the answer is here, so it must not be asked again
    is_told: bool = False  # the caller has had a piece of it
    crashes: int = 0


@dataclass(slots=True, eq=False)
class Server:
    """One serve process, as calls see it."""

    pid: int
    base: str
    device: str
    is_ready: bool = False
    models: set[str] = field(default_factory=set)  # attached, so that calls may name them
    attaching: set[str] = field(default_factory=set)
    calls: dict[int, Open] = field(default_factory=dict)
    calls_of: Counter[str] = field(default_factory=Counter)  # how many of these calls name each model
    uses: dict[str, Use] = field(default_factory=dict)  # of each model ever called here
    used_at: float = 0.0


class Network:
    """All serve processes and all open calls. `attach` starts bringing a model to a process; how that ended is said by
    `attached_to` or `attach_failed`."""

    def __init__(
        self,
        send: Callable[[int, Down], None],
        attach: Callable[[int, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._send = send
        self._attach = attach
        self._clock = clock
        self._servers: dict[int, Server] = {}
        self._calls: dict[int, Open] = {}

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    def rests(self) -> list[Rest]:
        """What no call needs: of a ready process without a call all, of another the models that no call names."""
        now = self._clock()
        found = []
        for server in self._servers.values():
            if server.is_ready and not server.calls:
                use = sum(one.of_late(now) for one in server.uses.values())
                found.append(Rest(server.pid, None, server.used_at, use))
            elif server.is_ready:
                for model in server.models - server.calls_of.keys() - {server.base}:
                    one = server.uses[model]
                    found.append(Rest(server.pid, model, one.at, one.of_late(now)))
        return found

    def wanted(self) -> set[tuple[int, str]]:
        """The models that calls wait for, each with the process that is to get it."""
        return {(s.pid, model) for s in self._servers.values() for model in s.attaching & s.calls_of.keys()}

    def attached(self) -> set[str]:
        """Every model that is answerable somewhere without loading."""
        return {model for server in self._servers.values() for model in server.models}

    def serve(self, pid: int, base: str, device: str) -> None:
        """This process is to serve this base; calls may be given to it from now on, ready or not."""
        self._servers[pid] = Server(pid, base, device, used_at=self._clock())

    def serving(self, base: str, device: str) -> int | None:
        """The newest process that serves this base there."""
        pids = (server.pid for server in self._servers.values() if (server.base, server.device) == (base, device))
        return max(pids, default=None)

    def open(self, pid: int, call: Call) -> Open:
        """Give a call to a process: it is sent as soon as the process is ready and has the model."""
        server = self._servers[pid]
        opened = Open(call, pid)
        server.calls[call.call_id] = self._calls[call.call_id] = opened
        server.calls_of[call.model] += 1
        server.used_at = self._clock()
        server.uses.setdefault(call.model, Use()).count(server.used_at)
        if server.is_ready:
            self._forward(server, opened)
        return opened

    def drop(self, opened: Open) -> None:
        """Nobody waits for this call any more."""
        if self._close(opened) and opened.is_sent:
            self._send(opened.pid, Cancel(opened.call.call_id))

    def answered(self, chunks: Iterable[Chunk]) -> None:
        """Pieces of answers have come; those of calls that were dropped are for nobody."""
        for chunk in chunks:
            opened = self._calls.get(chunk.call_id)
            if opened is None:
                continue
            opened.has_begun = True
            opened.chunks.put_nowait(chunk)
            if chunk.is_last:
                self._close(opened)

    def became_ready(self, pid: int) -> None:
        """The process has its base: send it all that waits."""
        server = self._servers[pid]
        server.is_ready, server.models, server.used_at = True, {server.base}, self._clock()
        self._forward_all(server)

    def attached_to(self, pid: int, model: str) -> None:
        """The process was told of the model: calls that name it may follow."""
        server = self._servers.get(pid)
        if server is None or model not in server.attaching:
            return  # it died meanwhile; at its next start the model is attached again
        server.attaching.discard(model)
        server.models.add(model)
        self._forward_all(server)

    def attach_failed(self, pid: int, model: str, fault: Fault) -> None:
        """The process cannot have the model: its calls get the reason."""
        server = self._servers.get(pid)
        if server is None:
            return
        server.attaching.discard(model)
        server.models.discard(model)
        for opened in [one for one in server.calls.values() if one.call.model == model]:
            self._fail(opened, fault)

    def detach(self, pid: int, model: str) -> None:
        """Take the model away from this process; the next call that names it brings it again."""
        server = self._servers.get(pid)
        if server is not None and model in server.models:
            server.models.discard(model)
            self._send(pid, Detach(model))

    def forget(self, model: str) -> None:
        """The model is leaving the store: detach it wherever it is."""
        for pid in list(self._servers):
            self.detach(pid, model)

    def lost(self, pid: int) -> None:
        """The process has died: calls without a chunk wait to be sent again, the others get their answer now."""
        server = self._servers.get(pid)
        if server is None:
            return
        server.is_ready, server.models, server.attaching = False, set(), set()
        for opened in [one for one in server.calls.values() if one.is_sent]:
            opened.is_sent = False
            opened.crashes += 1
            if opened.has_begun or not opened.call.is_idempotent or opened.crashes >= CRASHES_TO_GIVE_UP:
                self._fail(opened, _died(pid, opened))

    def closed(self, pid: int, fault: Fault) -> None:
        """The process is gone for good: whoever still waits for it gets the reason."""
        server = self._servers.pop(pid, None)
        if server is not None:
            for opened in list(server.calls.values()):
                self._fail(opened, fault)

    def _forward_all(self, server: Server) -> None:
        for opened in [one for one in server.calls.values() if not one.is_sent]:
            self._forward(server, opened)

    def _forward(self, server: Server, opened: Open) -> None:
        model = opened.call.model
        if opened.is_sent or opened.call.call_id not in self._calls:
            return
        if model not in server.models:
            if model not in server.attaching:
                server.attaching.add(model)
                self._attach(server.pid, model)
            return
        if opened.crashes >= CRASHES_TO_SUSPECT and _has_suspect_in_hand(server):
            return  # its turn comes when the one in hand has been answered
        try:
            self._send(server.pid, Ask(opened.call))
        except LlmosError as error:  # no frame can carry it: that is this call's answer, and no other's concern
            self._fail(opened, fault_of(error))
        else:
            opened.is_sent = True

    def _fail(self, opened: Open, fault: Fault) -> None:
        if self._close(opened):
            opened.chunks.put_nowait(Chunk(opened.call.call_id, fault=fault))

    def _close(self, opened: Open) -> bool:
        if self._calls.pop(opened.call.call_id, None) is None:
            return False
        server = self._servers.get(opened.pid)
        if server is not None:
            server.calls.pop(opened.call.call_id, None)
            server.calls_of[opened.call.model] -= 1
            if not server.calls_of[opened.call.model]:
                del server.calls_of[opened.call.model]
            server.used_at = self._clock()
            server.uses[opened.call.model].count(server.used_at, 0)
            if server.is_ready and opened.crashes >= CRASHES_TO_SUSPECT:
                self._forward_all(server)
        return True


def _has_suspect_in_hand(server: Server) -> bool:
    return any(one.is_sent and one.crashes >= CRASHES_TO_SUSPECT for one in server.calls.values())


def _died(pid: int, opened: Open) -> Fault:
    why = (
        f"its process (pid {pid}) died {opened.crashes} times while it had this call in hand"
        if opened.crashes >= CRASHES_TO_GIVE_UP
        else f"its process (pid {pid}) died when part of the answer was out"
    )
    return Fault(ProcessDied.code, f"The call was not answered: {why}. See: llmos logs {pid}")
