"""The kernel: connects loop, process table, store, supervisor and router, and implements the API's interface."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from dataclasses import replace
from itertools import count
from typing import Any

import psutil

from llmos import __version__
from llmos.abi.api_types import DiskUse, ModelView, Status, StreamEvent, Verified
from llmos.abi.call import Chunk
from llmos.abi.device import Device, LeaseKind
from llmos.abi.engine import DEFAULT, device_for
from llmos.abi.error import BadSetting, LlmosError
from llmos.abi.frame import Job
from llmos.abi.histogram import Histogram
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest
from llmos.abi.process import Priority, Process, Program, Spec
from llmos.abi.wire import to_plain
from llmos.config import Config
from llmos.home import end_children, end_orphans, is_stopped, mark
from llmos.kernel import events as ev
from llmos.kernel import journal_copy
from llmos.kernel.admission import admit, assignment, unreachable_dtypes
from llmos.kernel.calls.call_service import CallService
from llmos.kernel.children.cleanup import sweep_scratch
from llmos.kernel.children.devices import discover, probe_key
from llmos.kernel.children.heartbeats import LONGEST_TICK_S, TICK_S, Heartbeats
from llmos.kernel.children.log_reader import follow_log, read_log
from llmos.kernel.children.logs import Limits, Logs, log_path, zygote_log
from llmos.kernel.children.supervisor import Supervisor
from llmos.kernel.children.zygote import Zygote
from llmos.kernel.event_stream import EventStream
from llmos.kernel.executor import Executor
from llmos.kernel.journal import Journal
from llmos.kernel.loop import Loop, replay
from llmos.kernel.paths import Roots
from llmos.kernel.processes.ledger import no_room
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.processes.scheduler import View
from llmos.kernel.registry import Registry
from llmos.kernel.store.store import Store

SWEEP_EVERY_S = 3600.0
LATE_S = 5.0  # a tick that comes so late is told
JOURNAL = "journal.db"
log = logging.getLogger(__name__)


class Kernel:
    """One home's kernel. `start` before anything else, `stop` at the end.

    `clock` is the wall's, for what is shown and kept; `steady` is the one that nobody sets, for all that is waited for.
    """

    def __init__(
        self,
        config: Config,
        tasks: Collection[str],
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        for folder in ("logs", "run", "scratch", "downloads"):
            (config.home / folder).mkdir(parents=True, exist_ok=True)
        self._config = config
        self._tasks = tasks
        self._clock, self._steady = clock, steady
        self._started_at = self._clock()
        self._event_stream = EventStream(self._clock)
        self._heartbeats = Heartbeats(config.heartbeat_timeout_s, config.call_timeout_s, is_stopped)
        self._supervisor = Supervisor(
            Zygote(config.engine, zygote_log(config.home), mark(config.home)),
            self._heartbeats,
            clock=clock,
            steady=steady,
        )
        self._wakes: Counter[str] = Counter()  # how often each base was started, each model attached
        self._logs = Logs(config.home, Limits(config.max_log_bytes, config.max_log_files))
        self._running: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None

    def warm(self) -> None:
        """Start the zygote, whose imports keep a core busy for seconds: best once the daemon can answer."""
        self._supervisor.zygote.start()

    async def start(self) -> None:
        """Replay the journal, finish what was promised, and begin; children wait for `warm`."""
        config = self._config
        if ended := await asyncio.to_thread(end_orphans, config.home):
            log.warning("%d processes that an earlier daemon of this home had left were ended", ended)
        self._store = Store(config.home, config.catalog)
        for damaged in self._store.damaged:
            log.error("damaged: %s", damaged)
        self._journal = Journal(config.home / JOURNAL)
        if damaged := journal_copy.damage(config.home / JOURNAL):
            log.error("damaged: %s; it is written anew", damaged)
        self._table = ProcessTable(
            self._journal.snapshot(), memory_share=config.memory_share, stop_grace_s=config.stop_grace_s
        )
        replay(self._journal, self._table)
        self._compact()
        self._pids = count(self._table.last_pid + 1)
        self._plug()
        self._supervisor.start(self._router, self._loop.post)
        devices = discover()
        self._running = asyncio.get_running_loop().create_task(self._loop.run())
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        self._tidying = asyncio.get_running_loop().create_task(self._tidy())
        await self._loop.ask(ev.DaemonStarted(self._clock()))
        await asyncio.to_thread(sweep_scratch, config.home, self._table.returning())
        key = f"{config.engine} | {probe_key(devices, cpu_kernels=config.cpu_kernels)}"
        await self._loop.ask(ev.DevicesFound(self._clock(), devices, key))
        if self._table.probe_key != self._table.probed_key:
            args = {"devices": to_plain(devices), "engine": config.engine}
            try:
                await self.submit(Spec(Program.PROBE, args, priority=Priority.INTERACTIVE))
            except LlmosError as error:
                log.error("the devices are not measured: %s", error.message)  # the next start tries again

    def _plug(self) -> None:
        """Put the loop and those around it together."""
        config, table, store, supervisor, clock = (
            self._config,
            self._table,
            self._store,
            self._supervisor,
            self._clock,
        )
        self._loop = Loop(
            table,
            self._journal,
            perform=lambda effect: self._executor.perform(effect),
            applied=self._on_applied,
            view=self._view,
        )
        self._calls = CallService(
            config,
            table,
            store,
            supervisor.send,
            self._loop.post,
            self.submit,
            clock,
            self._steady,
            self._loop.schedule_soon,
        )
        self._router = self._calls.router
        self._executor = Executor(
            config, table, store, supervisor, self._router, self._assignment, self._loop.post, clock
        )
        self._registry = Registry(
            table,
            store,
            self._router,
            self._loop,
            self._event_stream,
            home=config.home,
            engine=config.engine,
            in_store=self._executor.in_store,
            kill=self.kill,
            journal_damage=self._journal.damage,
            unreached=lambda: unreachable_dtypes(config, table.devices),
            clock=clock,
        )

    async def stop(self) -> None:
        """End every child, trainers at a checkpoint; keep the journal short; let go of everything."""
        await self._loop.ask(ev.DownAsked(self._clock()))
        async with contextlib.AsyncExitStack() as stack:
            event_stream = await stack.enter_async_context(contextlib.aclosing(self.watch()))
            while any(process.os_pid is not None for process in self._table.processes.values()):
                await anext(event_stream)
        self._supervisor.zygote.refuse()
        await self._executor.close()
        for task in (self._tidying, self._ticking, self._running):
            assert task is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._event_stream.close()
        self._supervisor.close()
        end_children(os.getpid(), self._config.home)
        self._compact()
        self._journal.close()

    def _compact(self) -> None:
        """A journal that stays long is read all the same: a full disk must not lock its owner out."""
        try:
            self._journal.compact(self._table.snapshot())
        except LlmosError as error:
            log.error("the journal stays long: %s", error.message)  # the sentence says it all

    # Processes.

    async def submit(self, spec: Spec) -> Process:
        known = (self._store, self._tasks, self._config.kv_bytes, self._config.engine, self._config.threads)
        spec = replace(spec, args=await asyncio.to_thread(Roots(self._config).named, spec.program, spec.args))
        spec, needs = await asyncio.to_thread(admit, spec, *known)
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

    async def nice(self, pid: int, priority: Priority) -> Process:
        await self._loop.ask(ev.NiceAsked(self._clock(), pid, priority))
        return self._table.process(pid)

    async def log(self, pid: int, *, tail_lines: int | None = None) -> str:
        self._table.process(pid)
        return await asyncio.to_thread(read_log, log_path(self._config.home, pid), tail_lines)

    def follow_log(self, pid: int, *, tail_lines: int | None = None) -> AsyncGenerator[str, None]:
        self._table.process(pid)
        return follow_log(log_path(self._config.home, pid), lambda: self._is_over(pid), tail_lines)

    def _is_over(self, pid: int) -> bool:
        """Nobody writes to its log any more."""
        process = self._table.processes.get(pid)
        return process is None or process.is_ended

    def watch(self, pid: int | None = None) -> AsyncGenerator[StreamEvent, None]:
        return self._event_stream.watch(None if pid is None else self._table.process(pid))

    # Calls.

    def ref(self, model: str) -> str:
        return self._calls.ref(model)

    def answer(
        self,
        model: str,
        task: str | None,
        inputs: list[Json],
        params: dict[str, Json],
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        engine: str | None = None,
    ) -> Coroutine[Any, Any, Chunk]:  # Any: what a coroutine may be sent, here nothing
        return self._calls.answer(model, task, inputs, params, timeout_s=timeout_s, priority=priority, engine=engine)

    def stream(
        self,
        model: str,
        task: str | None,
        inputs: list[Json],
        params: dict[str, Json],
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        engine: str | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        return self._calls.stream(model, task, inputs, params, timeout_s=timeout_s, priority=priority, engine=engine)

    # Models and data.

    def models(self) -> list[ModelView]:
        return self._registry.models()

    def model(self, ref: str) -> ModelView:
        return self._registry.model(ref)

    def model_file(self, ref: str, path: str) -> str:
        return self._registry.model_file(ref, path)

    async def promote(self, ref: str) -> ModelView:
        return await self._registry.promote(ref)

    async def rollback(self, name: str) -> ModelView:
        return await self._registry.rollback(name)

    async def remove(self, ref: str) -> list[str]:
        return await self._registry.remove(ref)

    async def collect(self) -> int:
        return await self._registry.collect()

    async def disk_use(self) -> DiskUse:
        return await self._registry.disk_use()

    async def verify(self) -> Verified:
        return await self._registry.verify()

    def datasets(self) -> list[DatasetManifest]:
        return self._registry.datasets()

    def dataset(self, ref: str) -> DatasetManifest:
        return self._registry.dataset(ref)

    async def remove_dataset(self, ref: str) -> list[str]:
        return await self._registry.remove_dataset(ref)

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
            is_warm=self._supervisor.zygote.is_warm,
            devices=self._table.devices,
            leases=ledger.leases(),
            free_bytes={device.name: ledger.free(device.name) for device in self._table.devices},
            in_flight=self._router.in_flight,
            wakes=dict(self._wakes),
            processes=dict(Counter(str(process.state) for process in self._table.processes.values())),
        )

    def queue_times(self) -> Histogram:
        return self._router.queue_times

    # Between the loop and those around it.

    async def _tick(self) -> None:
        """Once a second, see who lives: children, the zygote, and this loop itself."""
        clock = asyncio.get_running_loop().time
        then = clock()
        while True:
            await asyncio.sleep(TICK_S)
            elapsed_s, then = clock() - then, clock()
            if elapsed_s > LATE_S:
                log.warning("the daemon stood still for %.1f s: is the machine busy, or a disk slow?", elapsed_s)
            try:
                for event in self._heartbeats.tick(self._clock(), elapsed_s, self._table.processes.values()):
                    self._loop.post(event)
                self._supervisor.tick(min(elapsed_s, LONGEST_TICK_S), self._config.heartbeat_timeout_s)
            except Exception:  # the top of a loop: our own mistake must not leave everybody unwatched
                log.exception("a tick failed")

    async def _tidy(self) -> None:
        """Keep the logs bounded, in a thread: a disk that does not answer must not leave children unwatched."""
        swept_at = -SWEEP_EVERY_S
        while True:
            processes = list(self._table.processes.values())
            await asyncio.to_thread(self._logs.tick, [one.pid for one in processes if one.os_pid is not None])
            now = asyncio.get_running_loop().time()
            if now - swept_at >= SWEEP_EVERY_S:
                swept_at = now
                known, ended = {one.pid for one in processes}, {one.pid for one in processes if one.is_ended}
                await asyncio.to_thread(self._logs.sweep, known, ended)
            await asyncio.sleep(TICK_S)

    def _on_applied(self, event: ev.Event) -> None:
        """Tell the router and the watchers what the loop has just made true."""
        kind = "progress" if isinstance(event, (ev.Progressed, ev.Metered)) else "process"
        for process in self._table.drain_changes():
            self._event_stream.publish(kind, process=process)
        match event:
            case ev.BecameReady() if self._table.process(event.pid).spec.program is Program.SERVE:
                self._wakes[str(self._table.process(event.pid).spec.args["base"])] += 1
            case ev.Attached(model=model):
                self._wakes[model] += 1
            case ev.Submitted(spec=spec) if spec.program is Program.SERVE:
                self._router.serve(event.pid, spec.args["base"], spec.device, str(spec.args.get("engine", DEFAULT)))
            case ev.RestartAsked(pid=pid) | ev.Evicted(pid=pid) if self._table.runtimes[pid].is_returning:
                self._router.restarting(pid)
            case ev.ChildExited():
                self._router.lost(event.pid, event.taking_in)
            case ev.Committed() | ev.CommitFailed():  # what mends comes first, and may be all that is kept
                self._registry.restart_mended()
                if isinstance(event, ev.Committed) and event.ref:
                    self._event_stream.publish("model", pid=event.pid, model=event.ref)
            case ev.PromotionChanged() | ev.PromotionRefused():
                self._registry.moved(event)
            case ev.DevicesProbed() | ev.DevicesFound():
                self._event_stream.publish("device", devices=[device.name for device in self._table.devices])

    def _view(self) -> View:
        router = self._router
        router.make_room(self._table.crowd())
        return self._table.view(
            self._clock(),
            router.rests(),
            self._config.idle_timeout_s,
            router.wanted(),
            idle_at=self._steady(),
            forsaken=router.forsaken(),
        )

    async def _submit(self, spec: Spec, needs: dict[LeaseKind, int]) -> Process:
        pid = next(self._pids)
        await self._loop.ask(ev.Submitted(self._clock(), pid, spec, needs))
        return self._table.process(pid)

    def _check_fits(self, spec: Spec) -> None:
        devices = [device.name for device in self._table.devices]
        if spec.device not in devices:
            said = f"No device {spec.device!r} here. There are: {', '.join(devices)}. See: llmos status"
            raise BadSetting(said, key="device", value=spec.device, expected=devices)
        if spec.program is Program.SERVE:
            device_for(str(spec.args["engine"]), [self._table.device(spec.device)])
        capacity = self._table.ledger.capacity(spec.device)
        if spec.need_bytes > capacity:
            raise no_room(spec.device, spec.need_bytes, capacity)

    def _assignment(self, process: Process) -> Job:
        return assignment(process, self._store, self._config, self._table.device(process.spec.device))
