"""The door of calls: which model, task and serve process a call means, and its answer, piece by piece, in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import count
from typing import Any

from llmos.abi.call import Call, Chunk, check_inputs
from llmos.abi.capability import gated
from llmos.abi.device import LeaseKind
from llmos.abi.engine import device_for, engine_of
from llmos.abi.error import LlmosError, TimedOut, Unavailable, WrongTask, error_of, fault_of
from llmos.abi.form import INT8
from llmos.abi.frame import Down
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import Class, Process, Program, Spec, State
from llmos.config import Config
from llmos.kernel import events as ev
from llmos.kernel.memory import MIB
from llmos.kernel.need import weights_bytes
from llmos.kernel.network import Network
from llmos.kernel.open import Open
from llmos.kernel.store.store import Store
from llmos.kernel.table import Table

Json = Any  # Any: a JSON value whose schema belongs to the task

OPEN_STATES = (State.QUEUED, State.STARTING, State.READY, State.SUSPENDED)


class Calls:
    """Takes calls in, and opens a serve process for a base that has none."""

    def __init__(
        self,
        config: Config,
        table: Table,
        store: Store,
        send: Callable[[int, Down], None],
        post: Callable[[ev.Event], None],
        submit: Callable[[Spec], Awaitable[Process]],
        clock: Callable[[], float],
        steady: Callable[[], float],
        rested: Callable[[], None],
    ) -> None:
        self._config = config
        self._table = table
        self._store = store
        self._post = post
        self._submit = submit
        self._clock = clock  # of events
        self._steady = steady  # of what is waited for, which nobody sets
        self.network = Network(send, self._attach, steady, max_waiting_calls=config.max_waiting_calls, rested=rested)
        self._ids = count(1)
        self._opening: dict[tuple[str, str, str], asyncio.Task[int]] = {}

    async def call(
        self,
        model: str,
        task: str | None,
        inputs: list[Json],
        params: dict[str, Json],
        *,
        stream: bool,
        timeout_s: float | None,
        klass: Class,
        engine: str | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """The answer of a model; raises what is wrong before its first piece, and closing it cancels the call."""
        check_inputs(inputs, params)
        manifest = self._store.resolve(model)
        wanted = task_of(manifest, task)
        call = Call(next(self._ids), manifest.ref, wanted, tuple(inputs), params, stream, klass=klass)
        opened = await self._open(manifest, call, timeout_s, engine_of(manifest, engine, self._config.engine))
        try:
            while True:
                chunk = await self._next_chunk(opened, timeout_s)
                if chunk.fault is not None and not opened.is_told:
                    raise error_of(chunk.fault)
                opened.is_told = True
                yield chunk
                if chunk.is_last:
                    return
        finally:
            self.network.drop(opened)

    async def _next_chunk(self, opened: Open, timeout_s: float | None) -> Chunk:
        limit_s = self._config.call_timeout_s
        left_s = limit_s if opened.deadline_at is None else min(limit_s, opened.deadline_at - self._steady())
        try:
            return await opened.take(left_s)
        except TimeoutError:
            within_s = limit_s if timeout_s is None else min(limit_s, timeout_s)
            if self.network.waits_for_room(opened):
                raise self._no_room(opened, within_s) from None
            raise _timed_out(opened, self._table.process(opened.pid), within_s) from None

    def _no_room(self, opened: Open, within_s: float) -> TimedOut:
        """What a call hears that has waited for its model to come all its time."""
        device, model = self._table.process(opened.pid).spec.device, opened.call.model
        wish = self._table.roster.wishes.get((opened.pid, model))
        size_bytes, free_bytes = 0 if wish is None else wish.size_bytes, self._table.ledger.free(device)
        return TimedOut(
            f"{model} did not come within {within_s:g} s: {device} has {max(free_bytes, 0) / MIB:,.0f} MiB free, it "
            f"needs {size_bytes / MIB:,.0f} MiB, and others that are in use take turns there. Try again later, end a "
            "process (llmos ps, llmos kill), or raise memory_share",
            timeout_s=within_s,
            device=device,
            need_bytes=size_bytes,
            free_bytes=free_bytes,
        )

    # The process that answers.

    async def _open(self, manifest: Manifest, call: Call, timeout_s: float | None, engine: str) -> Open:
        base, device = manifest.base or manifest.ref, self._device(manifest, engine)
        deadline_at = None if timeout_s is None else self._steady() + timeout_s
        pid = self._server(base, device, engine)
        if pid is None:
            limit_s = self._config.call_timeout_s if timeout_s is None else timeout_s
            try:
                async with asyncio.timeout(limit_s):
                    pid = await self._opened_server(base, device, engine)
            except TimeoutError:
                raise TimedOut(f"No process for {manifest.ref} within {limit_s:g} s. See: llmos ps") from None
        return self.network.open(pid, call, deadline_at)

    def _device(self, manifest: Manifest, engine: str) -> str:
        """Where it is served: on a GPU where there is one and the engine may, but for int8, which CPUs compute."""
        found = next((one for one in self._table.devices if one.kind == "cpu" and manifest.dtype == INT8), None)
        return (found or device_for(engine, self._table.devices)).name

    def _server(self, base: str, device: str, engine: str) -> int | None:
        """The process that serves this base there with this engine, or will as soon as it can."""
        pid = self.network.serving(base, device, engine)
        if pid is None:
            return None
        state = self._table.process(pid).state
        if state is State.SUSPENDED:
            raise Unavailable(f"Process {pid}, which serves {base}, is suspended. Go on with: llmos resume {pid}")
        return pid if state in OPEN_STATES or self._table.roster.lives[pid].is_returning else None

    async def _opened_server(self, base: str, device: str, engine: str) -> int:
        """A new serve process; whoever asks for the same one meanwhile gets the same one."""
        key = (base, device, engine)
        if key not in self._opening:
            self._opening[key] = asyncio.get_running_loop().create_task(self._open_server(base, device, engine))
            self._opening[key].add_done_callback(lambda _: self._opening.pop(key, None))
        return await asyncio.shield(self._opening[key])

    async def _open_server(self, base: str, device: str, engine: str) -> int:
        spec = Spec(Program.SERVE, {"base": base, "engine": engine}, klass=Class.INTERACTIVE, device=device)
        return (await self._submit(spec)).pid

    def _attach(self, pid: int, model: str) -> None:
        """Ask for a model that calls wait for; the scheduler finds room for it."""
        try:
            manifest = self._store.resolve(model)
        except LlmosError as error:  # it was removed a moment ago: its calls get the fault
            self.network.attach_failed(pid, model, fault_of(error))
            return
        kind = LeaseKind.WEIGHTS if manifest.method == "full" else LeaseKind.ADAPTERS
        self._post(ev.AttachAsked(self._clock(), pid, model, kind, weights_bytes(manifest)))


def _timed_out(opened: Open, process: Process, within_s: float) -> TimedOut:
    return TimedOut(
        f"No answer from {opened.call.model} within {within_s:g} s. Its process {process.pid} is "
        f"{process.state}{': ' + process.reason if process.reason else ''}. See: llmos logs {process.pid}",
        timeout_s=within_s,
    )


def task_of(manifest: Manifest, task: str | None) -> str:
    """The task that is asked of a model; WrongTask if it does another."""
    does = gated(manifest)
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
