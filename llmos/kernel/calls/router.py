"""The router: sends calls to serve processes, holds them while a model loads, and resends them after a crash.

Calls are not journalled. Every call gets an answer: its chunks, or the fault of what stopped it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from llmos.abi.call import Call, Chunk
from llmos.abi.engine import DEFAULT
from llmos.abi.error import Crashed, Fault, LlmosError, ProcessDied, TimedOut, fault_of
from llmos.abi.frame import Ask, Cancel, Detach, ToChild
from llmos.abi.histogram import Histogram
from llmos.kernel.calls.call_queue import CallQueue, PendingCall, RecentUse, ServeProcess
from llmos.kernel.processes.eviction import IdleTarget
from llmos.kernel.processes.turns import DRAINS_S, NOBODY, Crowd, bases_to_yield, model_to_yield

QUEUE_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
CRASHES_TO_GIVE_UP = 3  # a call in progress at this many crashes of its process is not sent again
CRASHES_TO_SUSPECT = 2  # from this many on it is sent alone, so that it cannot take other calls down
SUSPECTS = "suspects"  # the key under which suspects are held; model refs have a colon, so none equals it


class Router:
    """All serve processes and all open calls.

    `attach` requests a model for a process; the outcome arrives by `attached_to` or `attach_failed`.
    """

    def __init__(
        self,
        send: Callable[[int, ToChild], None],
        attach: Callable[[int, str], None],
        clock: Callable[[], float],
        *,
        max_waiting_calls: int,
        rested: Callable[[], None] = lambda: None,
    ) -> None:
        self._send = send
        self._attach = attach
        self._clock = clock
        self._max_waiting_calls = max_waiting_calls
        self._rested = rested  # called when something idle may make room for something awaited
        self._servers: dict[int, ServeProcess] = {}
        self._calls: dict[int, PendingCall] = {}
        self._unloads: set[str] = set()  # models that were asked to be unloaded, and not looked at yet
        self.queue_times = Histogram(QUEUE_S)  # from a call's arrival until it is first sent

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    def pending(self, call_id: int) -> PendingCall | None:
        """The open call of this number; None when it was answered, dropped or never came."""
        return self._calls.get(call_id)

    def inputs_in_hand(self, pid: int) -> int:
        """How many inputs this process was sent and has not computed yet."""
        return sum(self._servers[pid].in_hand.values())

    def rests(self) -> list[IdleTarget]:
        """Idle targets: ready processes without calls, and models of busy processes that no call names."""
        now = self._clock()
        found = []
        for server in self._servers.values():
            if server.is_ready and (not server.calls_of or (server.is_yielding and not server.sent)):
                use = sum(one.of_late(now) for one in server.uses.values())
                found.append(IdleTarget(server.pid, None, server.used_at, use, is_returning=bool(server.calls_of)))
            elif server.is_ready:
                for model in server.resting(now):
                    one = server.uses[model]
                    found.append(IdleTarget(server.pid, model, one.at, one.of_late(now)))
        return found

    def unload(self, model: str) -> None:
        """Note that this model is wanted no more, and have the scheduler look."""
        self._unloads.add(model)
        self._rested()

    def unloads(self) -> list[tuple[int, str | None]]:
        """What may be unloaded of what was asked for: a model of a process, or (None) all of it, for a base.

        Each is asked for once: what a call needs now stays, and is not looked for again.
        """
        wanted, self._unloads = self._unloads, set()
        return [
            (server.pid, None if model == server.base else model)
            for model in sorted(wanted)
            for server in self._servers.values()
            if server.is_ready and not (server.calls_of if model == server.base else server.calls_of[model])
            if model in server.models
        ]

    def forsaken(self) -> set[int]:
        """The processes that are not ready and that no call waits for any more."""
        servers = self._servers.values()
        return {server.pid for server in servers if server.uses and not server.calls_of and not server.is_ready}

    def wanted_models(self) -> set[tuple[int, str]]:
        """The models that calls wait for, each with its process."""
        return {(server.pid, model) for server in self._servers.values() for model in server.wanted_models()}

    def make_room(self, crowd: Crowd = NOBODY) -> None:
        """Time sharing of memory: where calls wait for a model or base that does not fit, one that had its time yields.

        New calls of a yielding model or base wait. Once its calls in progress are answered it is idle and can be
        evicted; it then queues behind the others. So each gets its time in turn.
        """
        now = self._clock()
        for server in self._servers.values():
            if server.is_yielding and server.sent and now - server.yields_since >= DRAINS_S:
                server.is_yielding, server.stays_since = False, now  # its longest answer would keep all others waiting
                self._forward(server)
        yielding = bases_to_yield(self._servers.values(), crowd, now)
        for server in self._servers.values():
            was_yielding, server.is_yielding = server.is_yielding, server.pid in yielding
            if server.is_yielding and not was_yielding:
                server.yields_since = now
            elif was_yielding and not server.is_yielding:
                self._forward(server)
        for device in {server.device for server in self._servers.values()}:
            self._make_room([server for server in self._servers.values() if server.device == device], now)

    def _make_room(self, servers: list[ServeProcess], now: float) -> None:
        if not any(server.wanted_models() for server in servers):
            for server in servers:
                for model in server.yielding:
                    server.waiting.let_go(model)
                if server.yielding:
                    server.yielding = set()
                    self._forward(server)
        elif (found := model_to_yield(servers, now)) is not None:
            server, model = found
            server.yielding.add(model)

    def is_attached(self, model: str) -> bool:
        """Whether the model can answer on some process without loading."""
        return any(model in server.models for server in self._servers.values())

    def is_called(self, model: str) -> bool:
        """Whether the model is attached or awaited somewhere, or a call of it waits."""
        servers = self._servers.values()
        return any(model in one.models | one.attaching or one.calls_of[model] > 0 for one in servers)

    def serve(self, pid: int, base: str, device: str, engine: str = DEFAULT) -> None:
        """Add a serve process for this base; it may get calls before it is ready."""
        self._servers[pid] = ServeProcess(
            pid, base, device, engine, CallQueue(self._max_waiting_calls), used_at=self._clock()
        )

    def serving(self, base: str, device: str, engine: str = DEFAULT) -> int | None:
        """The newest process that serves this base on that device with this engine."""
        newest: int | None = None
        for pid, one in self._servers.items():
            if one.base == base and one.device == device and one.engine == engine and pid > (newest or 0):
                newest = pid
        return newest

    def open(self, pid: int, call: Call, deadline_at: float | None = None) -> PendingCall:
        """Queue a call at a process; it is sent once the process is ready, has the model, and it is the call's turn.

        Busy if the queue is full.
        """
        server, now = self._servers[pid], self._clock()
        opened = PendingCall(call, pid, now, deadline_at, is_cold=server.is_new)
        server.waiting.put(opened, now)
        self._calls[call.call_id] = opened
        server.calls_of[call.model] += 1
        server.used_at = now
        server.uses.setdefault(call.model, RecentUse()).count(now)
        self._forward(server)
        return opened

    def drop(self, opened: PendingCall) -> None:
        """Remove a call that is not wanted any more."""
        was_sent = opened.is_sent
        if self._close(opened):
            if was_sent:
                self._send(opened.pid, Cancel(opened.call.call_id))
            self._forward_to(opened.pid)

    def answered(self, chunks: Iterable[Chunk]) -> None:
        """Deliver chunks; chunks of dropped calls are discarded."""
        pids = set()
        for chunk in chunks:
            opened = self._calls.get(chunk.call_id)
            if opened is None:
                continue
            opened.has_begun = True
            opened.put(chunk)
            if self._servers[opened.pid].apart.pop(chunk.call_id, None) is not None:
                pids.add(opened.pid)
            if chunk.is_last:
                if chunk.times is not None:
                    chunk.times.queue_s = opened.sent_at - opened.since
                    chunk.times.is_cold = opened.is_cold
                self._close(opened)
                pids.add(opened.pid)
        for pid in pids:
            self._forward_to(pid)

    def taken_in(self, call_id: int) -> None:
        """A call sent alone did not crash its process: it is no suspect any more, and others may be sent."""
        opened = self._calls.get(call_id)
        if opened is not None and self._servers[opened.pid].apart.pop(call_id, None) is not None:
            self._forward_to(opened.pid)

    def computed(self, call_id: int, share: float) -> None:
        """A process has computed this share of a large call, so more of another may be sent."""
        opened = self._calls.get(call_id)
        if opened is not None and opened.is_sent:
            done = max(opened.done, min(int(share * opened.size), opened.size))
            self._servers[opened.pid].in_hand[opened.lane] -= done - opened.done
            opened.done = done
            self._forward_to(opened.pid)

    def became_ready(self, pid: int) -> None:
        """The process has its base: send the queued calls."""
        server = self._servers[pid]
        server.is_ready, server.is_returning, server.is_new = True, False, False
        server.models, server.used_at = {server.base}, self._clock()
        server.stays_since = server.used_at
        self._forward(server)

    def attached_to(self, pid: int, model: str) -> None:
        """The process has the model: send the calls that wait for it."""
        server = self._servers.get(pid)
        if server is None or model not in server.attaching:
            return  # it died meanwhile; after its restart the model is attached again
        server.attaching.discard(model)
        server.models.add(model)
        server.came_at[model] = self._clock()
        server.waiting.let_go(model)
        self._forward(server)

    def waits_for_room(self, opened: PendingCall) -> bool:
        """Whether the call waits for its model to be attached."""
        server = self._servers.get(opened.pid)
        return server is not None and server.is_ready and opened.call.model in server.attaching

    def attach_failed(self, pid: int, model: str, fault: Fault) -> None:
        """The process cannot attach the model: its calls get the fault."""
        server = self._servers.get(pid)
        if server is None or model not in server.models | server.attaching:
            return  # it was removed before it was attached; its calls get this fault
        server.attaching.discard(model)
        server.forget(model)
        for opened in self._open_calls(server):
            if opened.call.model == model:
                self._fail(opened, fault)
        self._forward(server)  # a suspect among them may have been awaited

    def detach(self, pid: int, model: str) -> None:
        """Detach a model from this process; the next call that names it attaches it again."""
        server = self._servers.get(pid)
        if server is not None and model in server.models:
            server.forget(model)
            server.waiting.let_go(model)  # its calls attach it again, when it is their turn
            self._send(pid, Detach(model))
            self._forward(server)

    def forget(self, model: str) -> list[int]:
        """Detach a model that has left the store; returns the processes that had it."""
        having = [server.pid for server in self._servers.values() if model in server.models]
        for pid in having:
            self.detach(pid, model)
        return having

    def restarting(self, pid: int) -> None:
        """The process will restart: it answers the calls that were sent, and new ones wait."""
        server = self._servers.get(pid)
        if server is not None:
            server.is_ready, server.is_returning, server.is_yielding, server.is_new = False, True, False, True
            server.attaching = set()  # it requests them again after the restart

    def lost(self, pid: int, taking_in: Collection[int] = ()) -> None:
        """The process has died: calls without a chunk are queued again, the others fail now.

        `taking_in` are the calls that it was taking in when it died. A single one caused the crash and is not sent
        again; of several the cause is unknown, so each is sent alone.
        """
        server = self._servers.get(pid)
        if server is None:
            return
        server.is_ready, server.models, server.attaching = False, set(), set()
        server.is_new = server.is_returning
        if not server.is_new:  # it has crashed: that its next start takes time is its own fault
            for opened in self._open_calls(server):
                opened.is_cold = False
        server.came_at, server.yielding, server.is_yielding = {}, set(), False
        suspects = server.sent.keys() & {*taking_in}
        for opened in list(server.sent.values()):
            server.unsend(opened)
            opened.crashes += not server.is_returning
            if suspects == {opened.call.call_id}:
                self._fail(opened, _crash_fault(pid))
            elif opened.has_begun or not opened.call.is_idempotent or opened.crashes >= CRASHES_TO_GIVE_UP:
                self._fail(opened, _death_fault(pid, opened))
            else:
                server.waiting.put_back(opened)
                if opened.call.call_id in suspects:
                    server.apart[opened.call.call_id] = opened
        server.waiting.let_go()

    def closed(self, pid: int, fault: Fault) -> None:
        """The process has ended for good: all its calls fail with this fault."""
        server = self._servers.get(pid)
        if server is not None:
            for opened in self._open_calls(server):
                self._fail(opened, fault)
            del self._servers[pid]

    def _open_calls(self, server: ServeProcess) -> list[PendingCall]:
        return [*server.sent.values(), *server.waiting]

    def _forward_to(self, pid: int) -> None:
        server = self._servers.get(pid)
        if server is not None:
            self._forward(server)

    def _forward(self, server: ServeProcess) -> None:
        """Send queued calls, as far as limits allow."""
        if server.is_yielding:
            return
        now = self._clock()
        if server.apart:
            self._forward_apart(server, now)
        while server.is_ready and not server.apart and (opened := server.waiting.next(server.in_hand, now)) is not None:
            model = opened.call.model
            if opened.is_late(now):
                self._fail(opened, late(opened))
            elif model not in server.models:
                server.waiting.hold(opened, model)
                if model not in server.attaching:
                    server.attaching.add(model)
                    server.asked_at[model] = now
                    self._attach(server.pid, model)
            elif model in server.yielding:
                server.waiting.hold(opened, model)
            elif opened.crashes >= CRASHES_TO_SUSPECT and _has_suspect_in_hand(server):
                server.waiting.hold(opened, SUSPECTS)  # until the call in progress is answered
            else:
                self._ask(server, opened)

    def _forward_apart(self, server: ServeProcess, now: float) -> None:
        """Send the next suspect, unless one is in progress. Nothing else is sent before it."""
        for opened in sorted(server.apart.values(), key=lambda one: one.call.call_id):
            model = opened.call.model
            if not server.is_ready or not server.apart.keys().isdisjoint(server.sent):
                return
            if opened.is_late(now):
                self._fail(opened, late(opened))
            elif model in server.models:
                self._ask(server, opened, is_alone=True)
            elif model not in server.attaching:
                server.attaching.add(model)
                server.asked_at[model] = now
                self._attach(server.pid, model)

    def _ask(self, server: ServeProcess, opened: PendingCall, *, is_alone: bool = False) -> None:
        try:
            self._send(server.pid, Ask(opened.call, is_alone))
        except LlmosError as error:  # it cannot be encoded: only this call fails
            self._fail(opened, fault_of(error))
            return
        server.waiting.remove(opened)
        server.sent[opened.call.call_id] = opened
        server.sent_of[opened.call.model] += 1
        server.in_hand[opened.lane] += opened.size
        opened.is_sent, opened.sent_at = True, self._clock()
        if not opened.was_sent:
            opened.was_sent = True
            self.queue_times.observe(opened.call.model, opened.call.priority, opened.sent_at - opened.since)

    def _fail(self, opened: PendingCall, fault: Fault) -> None:
        if self._close(opened):
            opened.put(Chunk(opened.call.call_id, fault=fault))

    def _close(self, opened: PendingCall) -> bool:
        call = opened.call
        if self._calls.pop(call.call_id, None) is None:
            return False
        server = self._servers[opened.pid]
        server.waiting.remove(opened)
        server.unsend(opened)
        server.apart.pop(call.call_id, None)
        server.calls_of[call.model] -= 1
        if not server.calls_of[call.model]:
            del server.calls_of[call.model]
        server.used_at = self._clock()
        server.uses[call.model].count(server.used_at, 0)
        if opened.crashes >= CRASHES_TO_SUSPECT:
            server.waiting.let_go(SUSPECTS)
        is_free = not server.sent if server.is_yielding else call.model in server.resting(server.used_at)
        if is_free and (server.is_yielding or self.wanted_models()):
            self._rested()
        return True


def late(opened: PendingCall) -> Fault:
    """The error for a call that timed out."""
    cold = {"cold_start": True} if opened.is_cold and not opened.was_sent else {}
    return Fault(TimedOut.code, f"{opened.call.model} did not answer within the call's timeout_s", cold)


def _has_suspect_in_hand(server: ServeProcess) -> bool:
    return any(one.crashes >= CRASHES_TO_SUSPECT for one in server.sent.values())


def _crash_fault(pid: int) -> Fault:
    return Fault(
        Crashed.code,
        f"The call was not answered: its process (pid {pid}) ended by a fault of its own while it took the call in, so "
        f"that it is not sent again. Send another, or see: llmos logs {pid}",
        {"pid": pid},
    )


def _death_fault(pid: int, opened: PendingCall) -> Fault:
    why = (
        f"its process (pid {pid}) died {opened.crashes} times while it had this call in hand"
        if opened.crashes >= CRASHES_TO_GIVE_UP
        else f"its process (pid {pid}) died when part of the answer was out"
    )
    return Fault(ProcessDied.code, f"The call was not answered: {why}. See: llmos logs {pid}")
