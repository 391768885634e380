"""The kernel: connects loop, process table, store, supervisor and router, and implements the API's interface."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import psutil

from llmos import __version__
from llmos.abi.api_types import JournalSnapshot, Status
from llmos.abi.audit import DAEMON, AuditEntry
from llmos.abi.device import Device
from llmos.abi.engine import DEFAULT
from llmos.abi.error import LlmosError, Unavailable
from llmos.abi.frame import Job, Requested, RouteCalled
from llmos.abi.gate import DEFAULT_POLICY, LEARNING_POLICY
from llmos.abi.monitoring import FOLDER as MONITORS
from llmos.abi.process import Process, State
from llmos.abi.upload import uploads_in
from llmos.config import Config, is_loopback
from llmos.home import end_children, end_orphans, is_stopped, mark
from llmos.kernel import events as ev
from llmos.kernel import journal_copy
from llmos.kernel.admission import assignment, unreachable_dtypes
from llmos.kernel.alerts.actions import AlertActions
from llmos.kernel.alerts.alert_service import AlertService
from llmos.kernel.audit.audit_service import AuditService
from llmos.kernel.batch_service import BatchService
from llmos.kernel.calls.call_service import CallService
from llmos.kernel.calls.route_calls import RouteCalls
from llmos.kernel.children.cleanup import sweep_exports, sweep_scratch
from llmos.kernel.children.devices import discover, probe_key
from llmos.kernel.children.logs import Limits, Logs, zygote_log
from llmos.kernel.children.supervisor import LONGEST_TICK_S, TICK_S, Heartbeats, Supervisor
from llmos.kernel.children.zygote import Zygote
from llmos.kernel.event_stream import EventStream
from llmos.kernel.executor import Executor
from llmos.kernel.feedback.feedback_service import FeedbackService
from llmos.kernel.feedback.learner import FeedbackLearner, learned_by
from llmos.kernel.file_service import FileService
from llmos.kernel.fine_tuning_service import FineTuningService
from llmos.kernel.journal import Journal
from llmos.kernel.keys.key_service import KeyService
from llmos.kernel.loop import Loop, replay
from llmos.kernel.monitoring.monitor_service import MonitorFrame, MonitorService
from llmos.kernel.paths import Roots
from llmos.kernel.processes.child_requests import ChildRequests
from llmos.kernel.processes.follow_ups import FollowUps
from llmos.kernel.processes.process_service import ProcessService
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.processes.scheduler import View, crowd_of, view_of
from llmos.kernel.programs import traits_of
from llmos.kernel.programs.probe import probe_spec
from llmos.kernel.registry import Registry
from llmos.kernel.requests.request_service import RequestService
from llmos.kernel.rollouts.disagreement_book import DisagreementBook
from llmos.kernel.rollouts.rollout_service import RolloutService
from llmos.kernel.slos.slo_service import FOLDER as SLOS
from llmos.kernel.slos.slo_service import SloService
from llmos.kernel.store.store import Store
from llmos.kernel.store.uploads import UploadLimits
from llmos.kernel.upload_service import UploadService
from llmos.kernel.usage.usage_service import UsageService

SWEEP_EVERY_S = 3600.0
LATE_S = 5.0  # a tick this late is logged
JOURNAL = "journal.db"
log = logging.getLogger(__name__)


class Kernel:
    """One home's kernel: its `processes`, `models`, `calls`, `keys`, files, batches, rollouts and alerts.

    Call `start` first and `stop` at the end.

    `clock` is wall time, for what is shown and stored; `steady` is monotonic, for all waiting.
    """

    processes: ProcessService
    models: Registry
    calls: CallService
    uploads: UploadService
    files: FileService
    batches: BatchService
    fine_tuning: FineTuningService
    route_calls: RouteCalls
    requests: RequestService
    feedback: FeedbackService
    learning: FeedbackLearner
    keys: KeyService
    rollouts: RolloutService
    disagreements: DisagreementBook
    usage: UsageService
    alerts: AlertService
    slos: SloService
    monitoring: MonitorService
    audit: AuditService

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        for folder in ("logs", "run", "scratch", "downloads", "uploads"):
            (config.home / folder).mkdir(parents=True, exist_ok=True)
        self._config = config
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
        self._wakes: Counter[str] = Counter()  # starts of each base, and attachments of each model
        self._logs = Logs(config.home, Limits(config.max_log_bytes, config.max_log_files))
        self.requests = RequestService(config)
        self.audit = AuditService(config.home)
        self.usage = UsageService(config.home, config.usage_days, clock=clock)
        self._counting: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None

    @property
    def table(self) -> ProcessTable:
        """The process table, to be read: only the loop changes it."""
        return self._table

    @property
    def zygote_os_pid(self) -> int | None:
        """The operating system's pid of the zygote; None while there is none."""
        return self._supervisor.zygote.os_pid

    def warm(self) -> None:
        """Start the zygote, whose imports take a core for seconds: best once the daemon can answer."""
        self._supervisor.zygote.start()

    async def start(self) -> None:
        """Replay the journal, finish pending commits, and begin; children wait for `warm`."""
        config = self._config
        if ended := await asyncio.to_thread(end_orphans, config.home):
            log.warning("%d processes that an earlier daemon of this home had left were ended", ended)
        limits = UploadLimits(config.max_upload_bytes, config.max_uploads_bytes, config.upload_lifetime_s)
        self._store = Store(config.home, config.catalog, limits)
        is_open = not (is_loopback(config.host) or config.insecure)
        await asyncio.to_thread(self.usage.open)
        self.keys = KeyService(
            config.home,
            must_stay=is_open,
            clock=self._clock,
            steady=self._steady,
            used_today=self.usage.used_before_start,
        )
        self.keys.open_local()
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
        self._plug()
        await asyncio.to_thread(self.slos.start)
        await self.disagreements.open()
        self.requests.also_erase(self.disagreements.erase)
        self.monitoring.follow()
        await asyncio.to_thread(self.monitoring.forget_ended)
        self._supervisor.start(self._router, self._loop.post, self._take)
        devices = discover()
        self._running = asyncio.get_running_loop().create_task(self._loop.run())
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        self._tidying = asyncio.get_running_loop().create_task(self._tidy())
        self._counting = asyncio.get_running_loop().create_task(self.usage.run())
        await self._loop.ask(ev.DaemonStarted(self._clock(), config.resume_at_start))
        await asyncio.to_thread(sweep_scratch, config.home, self._table.returning())
        await self.batches.start()
        await self.fine_tuning.start()
        key = f"{config.engine} | {probe_key(devices, cpu_kernels=config.cpu_kernels)}"
        await self._loop.ask(ev.DevicesFound(self._clock(), devices, key))
        if self._table.probe_key != self._table.probed_key:
            try:
                await self.processes.submit(probe_spec(devices, config.engine))
            except LlmosError as error:
                log.error("the devices are not measured: %s", error.message)  # the next start tries again
        self.learning.begin()
        await self.audit.began(config)

    def _plug(self) -> None:
        """Connect the loop with the other parts."""
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
        self.uploads = UploadService(store.uploads, self._uploads_in_use)
        self.files = FileService(store.uploads, self._uploads_in_use, clock)
        self.batches = BatchService(config.home / "batches", self.files, lambda: self.processes, clock)
        self.fine_tuning = FineTuningService(config.home / "fine_tuning", lambda: self.processes, clock)
        self.processes = ProcessService(config, table, store, self._loop, self._event_stream, clock)
        self._requests = ChildRequests(table, self.processes, supervisor.send)
        self.route_calls = RouteCalls(table, supervisor.send)
        self.disagreements = DisagreementBook(
            config.home,
            config.rollout_texts,
            lambda text: self.feedback.text_id(text),
            clock,
            days=config.rollout_texts_days,
        )
        self._follow_ups = FollowUps(store, self.processes, lambda refs: self.models.remove_superseded(refs))
        self.rollouts = RolloutService(
            table,
            store,
            self._loop,
            self._event_stream,
            lambda request: self.calls.answer(request),
            self.disagreements,
            clock,
            self._steady,
        )
        self.calls = CallService(
            config,
            table,
            store,
            supervisor.send,
            self._loop.post,
            self.processes.submit,
            clock,
            self._steady,
            self._loop.schedule_soon,
            self.rollouts.observe,
        )
        self.feedback = FeedbackService(
            config.home, self.requests, store.row_key, lambda name: self.learning.look(name)
        )
        self.learning = FeedbackLearner(
            store,
            self.processes,
            self.feedback,
            lambda: table.learn_orders,
            lambda order: self._loop.ask(ev.LearnOrderChanged(clock(), order.name, order)),
            lambda name: table.gate_policy(name, LEARNING_POLICY),
        )
        self.slos = SloService(
            config.home / SLOS,
            lambda: table.slos,
            lambda slo: self._loop.ask(ev.SloChanged(clock(), slo)),
            store.found,
            self._event_stream,
            clock,
        )
        self._router = self.calls.router
        self._executor = Executor(
            config, table, store, supervisor, self._router, self._assignment, self._loop.post, clock
        )
        self.models = Registry(
            table,
            store,
            self._router,
            self._loop,
            self._event_stream,
            home=config.home,
            engine=config.engine,
            in_store=self._executor.in_store,
            kill=self.processes.kill,
            journal_damage=self._journal.damage,
            unreached=lambda: unreachable_dtypes(config, table.devices),
            follow_suites=Roots(config).with_real_suites,
            forget=self.disagreements.forget,
            clock=clock,
        )
        self.alerts = AlertService(
            config.home,
            lambda: table.alert_book,
            self._loop.ask,
            AlertActions(self.processes, self.models, store.promoted),
            self._event_stream,
            clock,
            self._steady,
        )
        self.monitoring = MonitorService(
            config.home / MONITORS,
            store,
            self.processes,
            self._event_stream,
            self.calls.answer,
            self.models.predictions,
            supervisor.send,
            lambda alarm: self.learning.note_alarm(alarm.model, alarm.at),
        )

    async def stop(self) -> None:
        """End every child, trainers at a checkpoint; compact the journal; release everything."""
        await self.alerts.close()
        await self.rollouts.close()
        await self.disagreements.close()
        await self.slos.close()
        await self._loop.ask(ev.DownAsked(self._clock()))
        async with contextlib.AsyncExitStack() as stack:
            event_stream = await stack.enter_async_context(contextlib.aclosing(self.processes.watch()))
            while any(process.os_pid is not None for process in self._table.processes.values()):
                await anext(event_stream)
        self._supervisor.zygote.refuse()
        await self._requests.close()
        await self.route_calls.close()
        await self.batches.close()
        await self.fine_tuning.close()
        await self._follow_ups.close()
        await self.learning.close()
        await self.monitoring.close()
        await self._executor.close()
        for task in (self._counting, self._tidying, self._ticking, self._running):
            assert task is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._event_stream.close()
        self.uploads.close()
        self.files.close()
        await asyncio.to_thread(self.feedback.close)
        await asyncio.to_thread(self.requests.close)
        await asyncio.to_thread(self.usage.close)
        await self.audit.note_end()
        self.keys.close()
        self._supervisor.close()
        end_children(os.getpid(), self._config.home)
        self._compact()
        self._journal.close()

    def _compact(self) -> None:
        """Compact the journal. A failure is only logged, so that a full disk does not prevent the start."""
        try:
            self._journal.compact(self._table.snapshot())
        except LlmosError as error:
            log.error("the journal stays long: %s", error.message)  # the message says everything

    # The machine.

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

    async def snapshot(self) -> JournalSnapshot:
        """Write the journal's snapshot, with all that was acknowledged until now, and the copy beside it."""
        asked_at = time.time()  # the copy's clock
        await self._loop.compact()
        found = await asyncio.to_thread(journal_copy.read, self._config.home / JOURNAL)
        if found is None or found.at < asked_at:  # keeping it failed, and that is no error of the journal
            place = journal_copy.place(self._config.home / JOURNAL)
            raise Unavailable(f"The snapshot {place} could not be written. Is the disk full? See the daemon's log")
        return JournalSnapshot(str(self._config.home), found.at, len(found.body))

    # Connections of the loop.

    async def _tick(self) -> None:
        """Check once a second that children, the zygote and this loop respond."""
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
                self.slos.tick()
            except Exception:  # the top of a loop: our own fault must not end the checks
                log.exception("a tick failed")

    async def _tidy(self) -> None:
        """Rotate and clean logs in a thread, so that a blocked disk does not stop the checks."""
        swept_at = -SWEEP_EVERY_S
        while True:
            processes = list(self._table.processes.values())
            await asyncio.to_thread(self._logs.tick, [one.pid for one in processes if one.os_pid is not None])
            now = asyncio.get_running_loop().time()
            if now - swept_at >= SWEEP_EVERY_S:
                swept_at = now
                known, ended = {one.pid for one in processes}, {one.pid for one in processes if one.is_ended}
                await asyncio.to_thread(self._logs.sweep, known, ended)
                await asyncio.to_thread(sweep_exports, self._config.home, self._clock())
                await self._sweep_uploads()
                await self._sweep_requests()
                await self._sweep_disagreements()
            await asyncio.sleep(TICK_S)

    async def _sweep_uploads(self) -> None:
        try:
            for upload in await self.uploads.sweep():
                log.info("the uploaded file %s (%s) is removed: its time is over", upload.id, upload.name)
        except Exception:  # the top of a loop: our own fault must not end the checks
            log.exception("uploaded files were not swept")

    async def _sweep_requests(self) -> None:
        try:
            await self.requests.sweep()
        except Exception:  # the top of a loop: our own fault must not end the checks
            log.exception("the request log was not swept")

    async def _sweep_disagreements(self) -> None:
        try:
            await self.disagreements.sweep({one.name for one in self._store.manifests()})
        except Exception:  # the top of a loop: our own fault must not end the checks
            log.exception("texts on which versions disagreed were not swept")

    def _uploads_in_use(self) -> set[str]:
        """The uploaded files that processes name which work, or may continue."""
        left = (one for one in self._table.processes.values() if one.state is not State.EXITED)
        return {name for process in left for name in uploads_in(process.spec.args)}

    def _take(self, pid: int, request: Requested | RouteCalled | MonitorFrame) -> None:
        """A request of a child."""
        if isinstance(request, MonitorFrame):
            self.monitoring.take(pid, request)
            return
        if isinstance(request, RouteCalled):
            self.route_calls.take(pid, request)
        else:
            self._requests.take(pid, request)

    def _on_applied(self, event: ev.Event) -> None:
        """Tell the router and the watchers about an applied event."""
        kind = "progress" if isinstance(event, (ev.Report, ev.UsageReport)) else "process"
        for process in self._table.drain_changes():
            self._event_stream.publish(kind, process=process)
            self._requests.tell_parent(process)
            self._follow_ups.look(process)
            for one in (self.route_calls, self.batches, self.fine_tuning):
                if process.pid in one.by_pid:
                    one.look(process)
            self.learning.look_after(process)
            self.disagreements.look(process)
            self.monitoring.look(process)
        self.alerts.see_kernel_event(event)
        match event:
            case ev.Ready() if traits_of(self._table.process(event.pid).spec.program).answers_calls:
                self._wakes[str(self._table.process(event.pid).spec.args["base"])] += 1
            case ev.Attached(model=model):
                self._wakes[model] += 1
            case ev.Submitted(spec=spec) if traits_of(spec.program).answers_calls:
                self._router.serve(event.pid, spec.args["base"], spec.device, str(spec.args.get("engine", DEFAULT)))
            case ev.RestartAsked(pid=pid) | ev.Evicted(pid=pid) if self._table.runtimes[pid].is_returning:
                self._router.restarting(pid)
            case ev.ChildExited():
                self._router.lost(event.pid, event.taking_in)
            # repaired files come first: a failed commit may still have replaced some
            case ev.Committed() | ev.CommitFailed():
                self.models.restart_mended()
                if isinstance(event, ev.Committed) and event.ref:
                    self._event_stream.publish("model", pid=event.pid, model=event.ref)
            case ev.PromotionChanged() | ev.PromotionRefused():
                self.models.moved(event)
                self.monitoring.follow()
                if isinstance(event, ev.PromotionChanged):  # by whomever: a gate and a rollout decide by themselves
                    self.audit.note(AuditEntry(DAEMON, "promoted", f"{event.name}:{event.version}"))
                if event.name in self._table.ended_rollouts:  # it may have ended one just now
                    self.rollouts.follow_event(event)
            case ev.RolloutStarted() | ev.RolloutStopped() | ev.RolloutDecided():
                self.rollouts.follow_event(event)
            case ev.Probed() | ev.DevicesFound():
                self._event_stream.publish("device", devices=[device.name for device in self._table.devices])

    def _view(self) -> View:
        router = self._router
        router.make_room(crowd_of(self._table))
        return view_of(
            self._table,
            self._clock(),
            router.rests(),
            self._config.idle_timeout_s,
            router.wanted_models(),
            idle_at=self._steady(),
            forsaken=router.forsaken(),
            unloads=router.unloads(),
        )

    def _assignment(self, process: Process) -> Job:
        job = assignment(process, self._store, self._config, self._table.device(process.spec.device))
        default = DEFAULT_POLICY if learned_by(process) is None else LEARNING_POLICY
        policy = self._table.gate_policy(str(process.spec.args.get("name", "")), default)
        return replace(job, gate=Roots(self._config).with_real_suites(policy))
