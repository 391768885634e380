"""The real kernel: loop, table, store, supervisor and network as one thing that the api asks (see port.py)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from itertools import count
from typing import Any

import psutil

from llmos import __version__
from llmos.abi.call import Call, Chunk
from llmos.abi.device import Device, LeaseKind
from llmos.abi.error import BadInput, Conflict, LlmosError, Unavailable, WrongTask, error_of, fault_of
from llmos.abi.frame import (
    Answer,
    Assignment,
    Attach,
    AttachFailed,
    Failed,
    Offered,
    Probed,
    Ready,
    Report,
    Spent,
    Up,
)
from llmos.abi.model import DatasetManifest, Kind, Manifest, split_ref
from llmos.abi.process import Class, Process, Program, Spec, State
from llmos.abi.view import DiskUse, Happening, ModelView, Status
from llmos.abi.wire import to_plain
from llmos.config import Config
from llmos.kernel import events as ev
from llmos.kernel.admission import admit, assignment
from llmos.kernel.devices import discover, probe_key
from llmos.kernel.hands import Hands
from llmos.kernel.happenings import Happenings
from llmos.kernel.journal import Journal
from llmos.kernel.logs import follow_log, log_path, read_log
from llmos.kernel.loop import Loop, replay
from llmos.kernel.memory import no_room, weights_bytes
from llmos.kernel.network import Network, Open
from llmos.kernel.nursery import Nursery
from llmos.kernel.scheduler import Idle
from llmos.kernel.store.store import Store
from llmos.kernel.supervisor import Supervisor
from llmos.kernel.table import Table

Json = Any  # Any: a JSON value whose schema belongs to the task or program

ALSO_DOES = {  # a model that does the one does the others as well
    "chat": ("generate",),
    "generate": ("chat",),
    "embed": ("similarity", "rerank", "classify"),
    "similarity": ("embed", "rerank", "classify"),
}
OPEN_STATES = (State.QUEUED, State.STARTING, State.READY, State.SUSPENDED)
log = logging.getLogger(__name__)


class Box:
    """One home's kernel. `start` before anything else, `stop` at the end."""

    def __init__(self, config: Config, tasks: Collection[str]) -> None:
        for folder in ("logs", "run", "scratch", "downloads"):
            (config.home / folder).mkdir(parents=True, exist_ok=True)
        self._config = config
        self._tasks = tasks
        self._clock = time.time
        self._started_at = self._clock()
        self._happenings = Happenings(self._clock)
        self._supervisor = Supervisor(
            Nursery(config.engine, config.home / "logs" / "zygote.log"), self._on_frame, self._on_exit
        )
        self._call_ids = count(1)
        self._opening: dict[tuple[str, str], asyncio.Task[int]] = {}
        self._moving: dict[str, asyncio.Future[None]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    def warm(self) -> None:
        """Start the zygote, whose imports keep a core busy for seconds: best once the daemon can answer."""
        self._supervisor.nursery.start()

    async def start(self) -> None:
        """Replay the journal, finish what was promised, and begin; children wait for `warm`."""
        self._supervisor.start()
        config = self._config
        self._store = Store(config.home)
        for damaged in self._store.damaged:
            log.error("damaged: %s", damaged)
        self._journal = Journal(config.home / "journal.db")
        self._table = Table(
            self._journal.snapshot(), memory_share=config.memory_share, stop_grace_s=config.stop_grace_s
        )
        replay(self._journal, self._table)
        self._journal.compact(self._table.snapshot())
        self._pids = count(self._table.last_pid + 1)
        self._network = Network(self._supervisor.send, self._attach, self._clock)
        self._hands = Hands(
            config, self._table, self._store, self._supervisor, self._network, self._assignment, self._post, self._clock
        )
        self._loop = Loop(
            self._table,
            self._journal,
            perform=self._hands.perform,
            applied=self._applied,
            idle=self._idle,
            idle_timeout_s=config.idle_timeout_s,
            clock=self._clock,
        )
        devices = discover()
        self._running = asyncio.get_running_loop().create_task(self._loop.run())
        await self._loop.ask(ev.DaemonStarted(self._clock()))
        await self._loop.ask(ev.DevicesFound(self._clock(), devices, f"{config.engine} | {probe_key(devices)}"))
        if self._table.probe_key != self._table.probed_key:
            args = {"devices": to_plain(devices), "engine": config.engine}
            await self.submit(Spec(Program.PROBE, args, klass=Class.INTERACTIVE))

    async def stop(self) -> None:
        """End every child, trainers at a checkpoint; keep the journal short; let go of everything."""
        await self._loop.ask(ev.DownAsked(self._clock()))
        async with contextlib.AsyncExitStack() as stack:
            happenings = await stack.enter_async_context(contextlib.aclosing(self.watch()))
            while any(process.os_pid is not None for process in self._table.processes.values()):
                await anext(happenings)
        await self._hands.close()
        assert self._running is not None
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        self._happenings.close()
        self._supervisor.close()
        with contextlib.suppress(LlmosError):
            self._journal.compact(self._table.snapshot())
        self._journal.close()

    # Processes.

    async def submit(self, spec: Spec) -> Process:
        spec, needs = await asyncio.to_thread(admit, spec, self._store, self._tasks)
        self._check_fits(spec)
        return await self._submit(spec, needs)

    def processes(self) -> list[Process]:
        return list(self._table.processes.values())

    def process(self, pid: int) -> Process:
        return self._table.process(pid)

    async def kill(self, pid: int, *, force: bool = False) -> Process:
        await self._loop.ask(ev.KillAsked(self._clock(), pid, force))
        return self._table.process(pid)

    async def suspend(self, pid: int) -> Process:
        await self._loop.ask(ev.SuspendAsked(self._clock(), pid))
        return self._table.process(pid)

    async def resume(self, pid: int) -> Process:
        await self._loop.ask(ev.ResumeAsked(self._clock(), pid))
        return self._table.process(pid)

    async def nice(self, pid: int, klass: Class) -> Process:
        await self._loop.ask(ev.NiceAsked(self._clock(), pid, klass))
        return self._table.process(pid)

    async def log(self, pid: int, *, tail_lines: int | None = None) -> str:
        self._table.process(pid)
        return await asyncio.to_thread(read_log, log_path(self._config.home, pid), tail_lines)

    def follow_log(self, pid: int) -> AsyncGenerator[str, None]:
        self._table.process(pid)
        return follow_log(log_path(self._config.home, pid), lambda: self._table.process(pid).is_ended)

    def watch(self, pid: int | None = None) -> AsyncGenerator[Happening, None]:
        return self._happenings.watch(None if pid is None else self._table.process(pid))

    # Calls.

    async def call(
        self,
        model: str,
        task: str | None,
        inputs: list[Json],
        params: dict[str, Json],
        *,
        stream: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        manifest = self._store.resolve(model)
        wanted = _task_of(manifest, task)
        limit_s = self._config.call_timeout_s if timeout_s is None else timeout_s
        call = Call(next(self._call_ids), manifest.ref, wanted, tuple(inputs), params, stream)
        try:
            async with asyncio.timeout(limit_s):
                opened = await self._open(manifest, call)
        except TimeoutError:
            raise Unavailable(f"No process for {manifest.ref} within {limit_s:g} s. See: llmos ps") from None
        try:
            while True:
                chunk = await self._next_chunk(opened, limit_s)
                if chunk.fault is not None and not opened.is_told:
                    raise error_of(chunk.fault)
                opened.is_told = True
                yield chunk
                if chunk.is_last:
                    return
        finally:
            self._network.drop(opened)

    async def _next_chunk(self, opened: Open, limit_s: float) -> Chunk:
        if not opened.chunks.empty():
            return opened.chunks.get_nowait()
        try:
            async with asyncio.timeout(limit_s):
                return await opened.chunks.get()
        except TimeoutError:
            process = self._table.process(opened.pid)
            raise Unavailable(
                f"No answer from {opened.call.model} within {limit_s:g} s. Its process {process.pid} is "
                f"{process.state}{': ' + process.reason if process.reason else ''}. See: llmos logs {process.pid}"
            ) from None

    async def _open(self, manifest: Manifest, call: Call) -> Open:
        base = manifest.base or manifest.ref
        pid = self._server(base, self._device().name)
        if pid is None:
            pid = await self._opened_server(base, self._device().name)
        return self._network.open(pid, call)

    def _server(self, base: str, device: str) -> int | None:
        """The process that serves this base there, or will as soon as it can."""
        pid = self._network.serving(base, device)
        if pid is None:
            return None
        state = self._table.process(pid).state
        if state is State.SUSPENDED:
            raise Unavailable(f"Process {pid}, which serves {base}, is suspended. Go on with: llmos resume {pid}")
        return pid if state in OPEN_STATES else None

    async def _opened_server(self, base: str, device: str) -> int:
        """A new serve process; whoever asks for the same one meanwhile gets the same one."""
        key = (base, device)
        if key not in self._opening:
            self._opening[key] = asyncio.get_running_loop().create_task(self._open_server(base, device))
            self._opening[key].add_done_callback(lambda _: self._opening.pop(key, None))
        return await asyncio.shield(self._opening[key])

    async def _open_server(self, base: str, device: str) -> int:
        spec = Spec(Program.SERVE, {"base": base}, klass=Class.INTERACTIVE, device=device)
        return (await self.submit(spec)).pid

    def _attach(self, pid: int, model: str) -> None:
        self._beside(self._attached(pid, model))

    async def _attached(self, pid: int, model: str) -> None:
        try:
            manifest = self._store.resolve(model)
            device = self._device(self._table.process(pid).spec.device)
            located = await asyncio.to_thread(self._store.located, model, self._dtype(device))
            kind = LeaseKind.WEIGHTS if manifest.method == "full" else LeaseKind.ADAPTERS
            await self._loop.ask(ev.AttachAsked(self._clock(), pid, model, kind, weights_bytes(manifest)))
        except Exception as error:  # noqa: BLE001  # the top of a work beside the loop: its calls get the fault
            self._network.attach_failed(pid, model, fault_of(error))
            return
        self._supervisor.send(pid, Attach(located))
        self._network.attached_to(pid, model)

    # Models and data.

    def models(self) -> list[ModelView]:
        return [self._view(manifest) for manifest in self._store.manifests()]

    def model(self, ref: str) -> ModelView:
        return self._view(self._store.resolve(ref))

    def model_file(self, ref: str, path: str) -> str:
        return str(self._store.file(ref, path))

    async def promote(self, ref: str) -> ModelView:
        manifest = self._store.resolve(ref)
        return await self._move(manifest.name, manifest.version)

    async def rollback(self, name: str) -> ModelView:
        name, version = split_ref(name)
        if version is not None:
            raise BadInput(f"rollback takes the bare name: llmos rollback {name}")
        self._store.resolve(name)
        history = self._store.promotions(name)
        if len(history) < 2:
            raise Conflict(f"{name} has no version promoted before this one. Name one: llmos promote {name}:VERSION")
        return await self._move(name, history[-2], back_from=history[-1])

    async def remove(self, ref: str) -> list[str]:
        self._check_unused(ref)
        removed: list[str] = await self._in_store(lambda: self._store.remove(ref))
        for one in removed:
            for pid in self._network.forget(one):
                self._post(ev.Detached(self._clock(), pid, one))
            self._happenings.publish("removed", model=one)
            for process in self._serving_processes(one):
                await self.kill(process.pid)
        return removed

    async def collect(self) -> int:
        freed: int = await self._in_store(self._store.collect)
        return freed

    async def disk_use(self) -> DiskUse:
        return await asyncio.to_thread(self._store.disk_use)

    def datasets(self) -> list[DatasetManifest]:
        return self._store.datasets()

    def dataset(self, ref: str) -> DatasetManifest:
        return self._store.dataset(ref)

    async def remove_dataset(self, ref: str) -> list[str]:
        removed: list[str] = await self._in_store(lambda: self._store.remove_dataset(ref))
        return removed

    # The box itself.

    def devices(self) -> list[Device]:
        return list(self._table.devices)

    def status(self) -> Status:
        ledger = self._table.ledger
        return Status(
            version=__version__,
            os_pid=os.getpid(),
            home=str(self._config.home),
            started_at=self._started_at,
            rss_bytes=psutil.Process().memory_info().rss,
            is_warm=self._supervisor.nursery.is_warm,
            devices=self._table.devices,
            leases=ledger.leases(),
            free_bytes={device.name: ledger.free(device.name) for device in self._table.devices},
            in_flight=self._network.in_flight,
            processes=dict(Counter(str(process.state) for process in self._table.processes.values())),
        )

    # What the loop and the children say.

    def _post(self, event: ev.Event) -> None:
        self._loop.post(event)

    def _on_exit(self, pid: int, os_pid: int, code: int) -> None:
        self._post(ev.ChildExited(self._clock(), pid, os_pid, code))

    def _on_frame(self, pid: int, frame: Up) -> None:
        now = self._clock()
        match frame:
            case Answer(chunks):
                self._network.answered(chunks)
            case AttachFailed(model, fault):
                self._network.attach_failed(pid, model, fault)
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
            case Probed(devices):
                self._post(ev.DevicesProbed(now, pid, devices))

    def _applied(self, event: ev.Event) -> None:
        """Tell the network and the watchers what the loop has just made true."""
        kind = "progress" if isinstance(event, (ev.Progressed, ev.Metered)) else "process"
        for process in self._table.drain_changes():
            self._happenings.publish(kind, process=process)
        match event:
            case ev.Submitted(spec=spec) if spec.program is Program.SERVE:
                self._network.serve(event.pid, spec.args["base"], spec.device)
            case ev.ChildExited():
                self._network.lost(event.pid)
            case ev.Committed(ref=ref) if ref:
                self._happenings.publish("model", pid=event.pid, model=ref)
            case ev.Moved():
                self._happenings.publish("promoted", model=f"{event.name}:{event.version}")
                self._answer_move(event.ticket, None)
            case ev.MoveRefused():
                self._answer_move(event.ticket, error_of(event.fault))
            case ev.DevicesProbed() | ev.DevicesFound():
                self._happenings.publish("device", devices=[device.name for device in self._table.devices])

    # What several of them do.

    async def _submit(self, spec: Spec, needs: dict[LeaseKind, int]) -> Process:
        pid = next(self._pids)
        await self._loop.ask(ev.Submitted(self._clock(), pid, spec, needs))
        return self._table.process(pid)

    async def _move(self, name: str, version: int, back_from: int | None = None) -> ModelView:
        ticket = secrets.token_hex(8)
        done = self._moving[ticket] = asyncio.get_running_loop().create_future()
        try:
            await self._loop.ask(ev.MoveAsked(self._clock(), name, version, ticket, back_from))
            await done
        finally:
            self._moving.pop(ticket, None)
        return self.model(name)

    def _answer_move(self, ticket: str, error: LlmosError | None) -> None:
        done = self._moving.get(ticket)
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def _beside(self, work: Any) -> None:  # Any: a coroutine of ours, sent and returning nothing
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _in_store(self, change: Any) -> Any:  # Any: a change of the store, and what it returns
        return await asyncio.get_running_loop().run_in_executor(self._hands.store_thread, change)

    def _assignment(self, process: Process) -> Assignment:
        return assignment(process, self._store, self._config, self._device(process.spec.device))

    def _device(self, name: str | None = None) -> Device:
        """The device of this name, or the one that a process gets when nobody said which: a GPU where there is one."""
        devices = self._table.devices
        if name is None:
            return next((device for device in devices if device.kind == "cuda"), devices[0])
        return next(device for device in devices if device.name == name)

    def _dtype(self, device: Device) -> str:
        return device.dtype if self._config.dtype == "auto" else self._config.dtype

    def _check_fits(self, spec: Spec) -> None:
        capacity = self._table.ledger.capacity(spec.device)
        if spec.need_bytes > capacity:
            raise no_room(spec.device, spec.need_bytes, capacity)

    def _check_unused(self, ref: str) -> None:
        name = ref.partition(":")[0]
        for process in self._table.processes.values():
            args = process.spec.args
            is_user = process.spec.program in (Program.TRAIN, Program.EVALUATE) and not process.is_ended
            if is_user and any(
                isinstance(args.get(word), str) and _is_of(args[word], ref) for word in ("base", "model")
            ):
                raise Conflict(
                    f"{ref} is in use by process {process.pid} ({process.spec.title}). Wait for it, or: llmos kill "
                    f"{process.pid}",
                    name=name,
                )

    def _serving_processes(self, base: str) -> list[Process]:
        return [
            process
            for process in self._table.processes.values()
            if process.spec.program is Program.SERVE
            and process.spec.args["base"] == base
            and process.state not in (State.EXITED, State.STOPPING)
        ]

    def _view(self, manifest: Manifest) -> ModelView:
        is_promoted = self._store.promoted(manifest.name) == manifest.version
        return ModelView(manifest, is_promoted, manifest.ref in self._network.attached())

    def _idle(self) -> list[Idle]:
        table = self._table
        return [
            Idle(pid, since, table.ledger.held(pid, table.process(pid).spec.device))
            for pid, since in self._network.idle()
            if table.process(pid).state is State.READY
        ]


def _task_of(manifest: Manifest, task: str | None) -> str:
    does = (manifest.task, *ALSO_DOES.get(manifest.task, ()))
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


def _is_of(used: str, ref: str) -> bool:
    return used == ref or (":" not in ref and used.partition(":")[0] == ref)
