"""Takes calls in: resolves the model, finds or starts its serve process, and returns the answer within its timeout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count

from llmos.abi.call import Call, CallRequest, Chunk, check_inputs
from llmos.abi.capability import allowed_tasks
from llmos.abi.device import Device, LeaseKind
from llmos.abi.engine import device_for, engine_of
from llmos.abi.error import LlmosError, TimedOut, Unavailable, WrongTask, error_of, fault_of
from llmos.abi.form import INT8
from llmos.abi.frame import ToChild
from llmos.abi.histogram import Histogram
from llmos.abi.method import has_own_weights
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import Process, Spec, State
from llmos.config import Config
from llmos.kernel import events as ev
from llmos.kernel.calls.call_queue import Deadlines, PendingCall
from llmos.kernel.calls.router import Router
from llmos.kernel.processes.footprint import attached_bytes
from llmos.kernel.processes.ledger import MIB
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.programs.serve import serve_spec
from llmos.kernel.rollouts.rollout_service import CallObservation
from llmos.kernel.store.store import Store

OPEN_STATES = (State.QUEUED, State.STARTING, State.READY, State.SUSPENDED)


class CallService:
    """Takes calls in, and starts a serve process for a base that has none."""

    def __init__(
        self,
        config: Config,
        table: ProcessTable,
        store: Store,
        send: Callable[[int, ToChild], None],
        post: Callable[[ev.Event], None],
        submit: Callable[[Spec], Awaitable[Process]],
        clock: Callable[[], float],
        steady: Callable[[], float],
        rested: Callable[[], None],
        observe: Callable[[CallRequest], CallObservation],
    ) -> None:
        """`observe` watches the calls that a rollout has routed."""
        self._config = config
        self._table = table
        self._store = store
        self._post = post
        self._submit = submit
        self._clock = clock  # for the times of events
        self._steady = steady  # monotonic, for waiting times
        self._observe = observe
        self.router = Router(send, self._attach, steady, max_waiting_calls=config.max_waiting_calls, rested=rested)
        self._targets = Targets(store, table, config.engine)
        self._deadlines = Deadlines()
        self._ids = count(1)
        self._opening: dict[tuple[str, str, str], asyncio.Task[int]] = {}

    def ref(self, model: str) -> str:
        """The version (`name:version`) to which a call to this model goes now."""
        return self._targets.ref(model)

    def task_of(self, model: str) -> str:
        """The default task of a call to this model."""
        return self._targets.find(model, None, None).task

    def unload(self, model: str) -> None:
        """Give back the memory of this version at the next look of the scheduler, if no call needs it then."""
        self.router.unload(self._targets.ref(model))

    @property
    def queue_times(self) -> Histogram:
        return self.router.queue_times

    async def answer(self, request: CallRequest) -> Chunk:
        """The whole answer of a model; raises its error. Cancelling it cancels the call."""
        if not request.rollout:
            return await self._answer(request)
        with self._observe(request) as observation:
            return observation.put(await self._answer(request), is_whole=True)

    async def _answer(self, request: CallRequest) -> Chunk:
        opened = await self._open(request, is_stream=False)
        try:
            return await self._next_chunk(opened, request.timeout_s)
        finally:
            self.router.drop(opened)

    def stream(self, request: CallRequest) -> AsyncGenerator[Chunk, None]:
        """The answer in chunks; an error is raised before the first chunk, and closing it cancels the call."""
        return self._observed_stream(request) if request.rollout else self._stream(request)

    async def _observed_stream(self, request: CallRequest) -> AsyncGenerator[Chunk, None]:
        with self._observe(request) as observation:
            async with aclosing(self._stream(request)) as chunks:
                async for chunk in chunks:
                    yield observation.put(chunk, is_whole=False)

    async def _stream(self, request: CallRequest) -> AsyncGenerator[Chunk, None]:
        opened = await self._open(request, is_stream=True)
        try:
            while True:
                chunk = await self._next_chunk(opened, request.timeout_s)
                opened.is_told = True
                yield chunk
                if chunk.is_last:
                    return
        finally:
            self.router.drop(opened)

    async def _next_chunk(self, opened: PendingCall, timeout_s: float | None) -> Chunk:
        limit_s = self._config.call_timeout_s
        left_s = limit_s if opened.deadline_at is None else min(limit_s, opened.deadline_at - self._steady())
        self._deadlines.set(opened, left_s)
        try:
            chunk = await opened.take()
        except TimeoutError:
            within_s = limit_s if timeout_s is None else min(limit_s, timeout_s)
            if self.router.waits_for_room(opened):
                raise self._no_room(opened, within_s) from None
            raise self._timed_out(opened, within_s) from None
        finally:
            self._deadlines.take_back(opened)
        if chunk.fault is not None and not opened.is_told:
            raise error_of(chunk.fault)
        return chunk

    def _timed_out(self, opened: PendingCall, within_s: float) -> TimedOut:
        """The error for a call without an answer; `cold_start` says that its process has not come yet, for no fault of
        the model's."""
        process = self._table.process(opened.pid)
        is_coming = process.state is State.STARTING or (process.state is State.QUEUED and self._table.is_probing)
        is_cold = opened.is_cold and not opened.was_sent and is_coming
        return TimedOut(
            f"No answer from {opened.call.model} within {within_s:g} s. Its process {process.pid} is "
            f"{process.state}{': ' + process.reason if process.reason else ''}. See: llmos logs {process.pid}",
            timeout_s=within_s,
            model=opened.call.model,
            pid=process.pid,
            **({"cold_start": True} if is_cold else {}),
        )

    def _no_room(self, opened: PendingCall, within_s: float) -> TimedOut:
        """The error for a call whose model found no memory within its timeout."""
        device, model = self._table.process(opened.pid).spec.device, opened.call.model
        request = self._table.attach_requests.get((opened.pid, model))
        size_bytes, free_bytes = 0 if request is None else request.size_bytes, self._table.ledger.free(device)
        return TimedOut(
            f"{model} did not come within {within_s:g} s: {device} has {max(free_bytes, 0) / MIB:,.0f} MiB free, it "
            f"needs {size_bytes / MIB:,.0f} MiB, and models in use take turns there. Try again later, end a "
            "process (llmos ps, llmos kill), or raise memory_share",
            model=model,
            timeout_s=within_s,
            device=device,
            need_bytes=size_bytes,
            free_bytes=free_bytes,
        )

    # The serve process.

    async def _open(self, request: CallRequest, *, is_stream: bool) -> PendingCall:
        """Open the call and give it to the router with its serve process."""
        inputs, params, timeout_s = request.inputs, request.params, request.timeout_s
        check_inputs(inputs, params)
        target = self._targets.find(request.model, request.task, request.engine)
        call = Call(
            next(self._ids),
            target.model,
            target.task,
            inputs,
            params,
            is_stream,
            priority=request.priority,
            operation=request.operation,
        )
        deadline_at = None if timeout_s is None else self._steady() + timeout_s
        pid = self._server(target)
        if pid is None:
            limit_s = self._config.call_timeout_s if timeout_s is None else timeout_s
            try:
                async with asyncio.timeout(limit_s):
                    pid = await self._opened_server(target)
            except TimeoutError:
                raise TimedOut(
                    f"No process for {target.model} within {limit_s:g} s. See: llmos ps",
                    model=target.model,
                    timeout_s=limit_s,
                    cold_start=True,
                ) from None
        return self.router.open(pid, call, deadline_at)

    def _server(self, target: Target) -> int | None:
        """The process that serves this base on that device with this engine; it may still be starting."""
        pid = self.router.serving(target.base, target.device, target.engine)
        if pid is None:
            return None
        state = self._table.process(pid).state
        if state is State.SUSPENDED:
            raise Unavailable(
                f"Process {pid}, which serves {target.base}, is suspended. Continue it: llmos resume {pid}", pid=pid
            )
        return pid if state in OPEN_STATES or self._table.runtimes[pid].is_returning else None

    async def _opened_server(self, target: Target) -> int:
        """A new serve process; concurrent callers share one."""
        key = (target.base, target.device, target.engine)
        if key not in self._opening:
            self._opening[key] = asyncio.get_running_loop().create_task(self._open_server(target))
            self._opening[key].add_done_callback(lambda _: self._opening.pop(key, None))
        return await asyncio.shield(self._opening[key])

    async def _open_server(self, target: Target) -> int:
        return (await self._submit(serve_spec(target.base, target.engine, target.device))).pid

    def _attach(self, pid: int, model: str) -> None:
        """Request a model that calls wait for; the scheduler finds memory for it."""
        try:
            manifest = self._store.resolve(model)
        except LlmosError as error:  # it was removed just now: its calls get the fault
            self.router.attach_failed(pid, model, fault_of(error))
            return
        kind = LeaseKind.WEIGHTS if has_own_weights(manifest.method) else LeaseKind.ADAPTERS
        self._post(ev.AttachAsked(self._clock(), pid, model, kind, attached_bytes(manifest)))


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of a call: a version (`model`), a task, and the base, device and engine of its serve process."""

    model: str
    task: str
    base: str
    device: str
    engine: str


class Targets:
    """A cache of the destinations of calls; cleared when the store or the devices change."""

    def __init__(self, store: Store, table: ProcessTable, engine: str) -> None:
        self._store = store
        self._table = table
        self._engine = engine  # the daemon's own, if neither call nor manifest names one
        self._index, self._devices = store.index, table.devices  # of the cached targets
        self._refs: dict[str, str] = {}
        self._targets: dict[tuple[str, str | None, str | None], Target] = {}

    def ref(self, model: str) -> str:
        """The version that a name means; raises if there is none."""
        self._forget_old()
        found = self._refs.get(model)
        if found is None:
            found = self._refs[model] = self._index.resolve(model).ref
        return found

    def find(self, model: str, task: str | None, engine: str | None) -> Target:
        """The target of a call; raises if the name, the task or the engine does not fit."""
        self._forget_old()
        key = (model, task, engine)
        found = self._targets.get(key)
        if found is None:
            found = self._targets[key] = self._find(self._index.resolve(model), task, engine)
        return found

    def _forget_old(self) -> None:
        index, devices = self._store.index, self._table.devices
        if index is not self._index or devices is not self._devices:
            self._index, self._devices = index, devices
            self._refs, self._targets = {}, {}

    def _find(self, manifest: Manifest, task: str | None, engine: str | None) -> Target:
        task, engine = task_of(manifest, task), engine_of(manifest, engine, self._engine)
        return Target(manifest.ref, task, manifest.base or manifest.ref, self._device(manifest, engine).name, engine)

    def _device(self, manifest: Manifest, engine: str) -> Device:
        """The device for this model: a GPU if there is one and the engine can use it; for int8 a CPU."""
        found = next((one for one in self._devices if one.kind == "cpu" and manifest.dtype == INT8), None)
        return found or device_for(engine, self._devices)


def task_of(manifest: Manifest, task: str | None) -> str:
    """The task of a call; WrongTask if the model does not do it."""
    does = allowed_tasks(manifest)
    if task is None:
        return manifest.task
    if task not in does:
        kind = "base" if manifest.kind is Kind.BASE else "model"
        raise WrongTask(
            f"{manifest.ref} is a {kind} for {' and '.join(does)}, not for {task}. Choose another model (llmos ls)",
            model=manifest.ref,
            task=task,
            has=list(does),
        )
    return task
