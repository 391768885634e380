"""A kernel in memory, for tests of what stands on it: a small store, processes that a test plays, the null engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any
from weakref import finalize

from llmos.abi.api_types import Damage, DiskUse, JournalSnapshot, ModelView, Status, StreamEvent, Verified
from llmos.abi.call import Call, CallRequest, Chunk, Operation, check_inputs
from llmos.abi.capability import allowed_tasks, capabilities_of
from llmos.abi.device import Device, Lease, LeaseKind
from llmos.abi.disagreement import CallOrigin, Disagreement
from llmos.abi.engine import DEFAULT, engine_of
from llmos.abi.error import (
    Conflict,
    DatasetNotFound,
    Fault,
    IllegalMove,
    LlmosError,
    ModelNotFound,
    NotFound,
    ProcessNotFound,
    TimedOut,
    WrongTask,
    error_of,
    fault_of,
)
from llmos.abi.frame import ModelPath
from llmos.abi.gate import DEFAULT_POLICY, Gate, GatePolicy, gate_policy
from llmos.abi.histogram import Histogram
from llmos.abi.json_type import Json
from llmos.abi.labelling import LabellingState
from llmos.abi.model import DatasetManifest, File, Kind, Manifest, Part, check_name, split_ref
from llmos.abi.process import DONE, Priority, Process, Progress, Spec, State
from llmos.abi.rollout import Rollout, RolloutView, Stage, plan_of
from llmos.abi.row_id import RowHmac, fold_text
from llmos.abi.slo import Slo
from llmos.abi.task import spec_of
from llmos.config import Config
from llmos.engines import Engine
from llmos.engines.intake import whole
from llmos.engines.null import NullEngine
from llmos.engines.tokenization import load_in_steps, tokenize_in_steps
from llmos.kernel.alerts.alert_service import AlertService
from llmos.kernel.audit.audit_service import AuditService
from llmos.kernel.batch_service import BatchService
from llmos.kernel.calls.router import QUEUE_S
from llmos.kernel.event_stream import EventStream
from llmos.kernel.feedback.feedback_service import FeedbackService
from llmos.kernel.file_service import FileService
from llmos.kernel.fine_tuning_service import FineTuningService
from llmos.kernel.interface import KernelInterface
from llmos.kernel.keys.key_service import KeyService
from llmos.kernel.programs import declaration_of
from llmos.kernel.requests.request_service import RequestService
from llmos.kernel.rollouts.decision import guard_states
from llmos.kernel.rollouts.live_rollout import LiveRollout, RoutedVersion
from llmos.kernel.slos.slo_service import SloService
from llmos.kernel.store.uploads import UploadLimits, Uploads
from llmos.kernel.upload_service import UploadService
from llmos.kernel.usage.usage_service import UsageService
from llmos.testing.alerts import memory_alerts
from llmos.testing.learning import MemoryLearning
from llmos.testing.monitoring import MemoryMonitoring

NOON = 1_750_000_000.0


def manifest(name: str, version: int, task: str, base: str | None = None, **fields: Any) -> Manifest:  # Any: its fields
    """A version as the store would hold it."""
    files: tuple[File, ...] = (File("model.safetensors", "ab" * 32, 1000, Part.WEIGHTS),)
    if base:
        files += (File("report.html", "cd" * 32, 10, Part.EVIDENCE),)
    kind = Kind.MODEL if base else Kind.BASE
    made = "2026-01-02T03:04:05+00:00"
    return Manifest(name, version, kind, task, files, base=base, created_at=made, **fields)


def starter() -> list[Manifest]:
    """Two bases, a classifier in two versions, and a tagger."""
    accuracy = {"metrics": {"accuracy": 0.93, "f1_macro": 0.91}}
    f1 = {"metrics": {"f1": 0.87, "accuracy": 0.98}}
    labels = {"labels": ("billing", "delivery"), "method": "full", "evidence": accuracy}
    return [
        manifest("minilm", 1, "embed"),
        manifest("smollm2", 1, "chat"),
        manifest("support", 1, "classify", "minilm:1", **labels),
        manifest("support", 2, "classify", "minilm:1", **labels),
        manifest("ner", 1, "tag", "minilm:1", labels=("O", "B-PER", "I-PER"), method="lora", evidence=f1),
    ]


class MemoryModels:
    """Models and datasets. `report` is where the file of every model lies, and `damages` is what `verify` finds."""

    def __init__(self, driver: str, report: str) -> None:
        self.manifests = {one.ref: one for one in starter()}
        self.promoted: dict[str, list[int]] = {"minilm": [1], "smollm2": [1], "support": [1, 2], "ner": [1]}
        self.damages: tuple[Damage, ...] = ()
        self.rows = {one.ref: one for one in (DatasetManifest("tickets", 1, "classify", (), {"train": 9}),)}
        self.report = report
        self.checks: tuple[str, ...] = ()  # folders of reports of `data check`
        self.policies: dict[str, GatePolicy] = {}
        self._driver = driver

    def all(self) -> list[ModelView]:
        return [self._view(one) for one in self.manifests.values()]

    def get(self, ref: str) -> ModelView:
        name, version = split_ref(ref)
        if version is None and self.promoted.get(name):
            version = self.promoted[name][-1]
        found = self.manifests.get(f"{name}:{version}")
        if found is None:
            raise ModelNotFound(f"No model {ref!r} in the store. Bring it in: llmos pull {name}", name=name)
        return self._view(found)

    def file(self, ref: str, path: str) -> str:
        self.get(ref)
        if not self.report:
            raise NotFound(f"{ref} has no {path}")
        return self.report

    def predictions(self, ref: str, evaluation: int | None = None) -> tuple[str, int | None]:
        return self.file(ref, "predictions.jsonl.gz"), evaluation

    def check_reports(self, ref: str, evaluation: int | None = None) -> tuple[str, ...]:
        return self.checks

    async def promote(self, ref: str) -> ModelView:
        found = self.get(ref).manifest
        self.promoted[found.name].append(found.version)
        return self.get(found.ref)

    async def rollback(self, name: str) -> ModelView:
        self.get(name)
        if len(self.promoted[name]) < 2:
            raise Conflict(f"{name} has no version promoted before. Choose one: llmos promote {name}:VERSION")
        self.promoted[name].pop()
        return self.get(name)

    def gate(self, name: str) -> Gate:
        policy = self.policies.get(check_name(name), DEFAULT_POLICY)
        return Gate(name, policy.require, policy.margin, name not in self.policies)

    async def set_gate(self, name: str, require: Sequence[str] | None, margin: float | None) -> Gate:
        before = self.gate(name)
        wanted = before.require if require is None else require
        self.policies[name] = gate_policy(wanted, before.margin if margin is None else margin)
        return self.gate(name)

    async def reset_gate(self, name: str) -> Gate:
        self.policies.pop(name, None)
        return self.gate(name)

    async def remove(self, ref: str) -> list[str]:
        found = self.get(ref).manifest
        standing = [one.ref for one in self.manifests.values() if one.base == found.ref]
        if standing:
            raise Conflict(f"{', '.join(standing)} stand on {found.ref}. Remove them first")
        gone = [one for one in self.manifests if one == ref or one.partition(":")[0] == ref]
        for one in gone:
            del self.manifests[one]
        return gone

    def datasets(self) -> list[DatasetManifest]:
        return list(self.rows.values())

    def dataset(self, ref: str) -> DatasetManifest:
        if ref not in self.rows:
            raise DatasetNotFound(f"No dataset {ref!r} in the store")
        return self.rows[ref]

    async def dataset_rows(self, ref: str, split: str | None, start: int, limit: int) -> dict[str, Json]:
        return {"split": split or "train", "total": self.dataset(ref).splits["train"], "start": start, "rows": []}

    def dataset_check(self, ref: str) -> tuple[str, str]:
        return self.dataset(ref).ref, self.checks[0] if self.checks else ""

    def labelling(self, ref: str, model: str | None, retrain: int | None) -> LabellingState:
        found = self.dataset(ref)
        return LabellingState(found.ref, found.splits["train"], 0, next_at=None if model is None else 50)

    async def row_ids(self, texts: Sequence[str]) -> list[str]:
        hmac = RowHmac(b"")
        return [hmac.id_of(fold_text(text)) for text in texts]

    async def remove_dataset(self, ref: str) -> list[str]:
        del self.rows[self.dataset(ref).ref]
        return [ref]

    async def collect(self) -> int:
        return 4096

    async def disk_use(self) -> DiskUse:
        return DiskUse(1000, 200, 30, 4, 3, 2, 5, 600, 7_000_000)

    async def verify(self) -> Verified:
        return Verified(3, 1000, self.damages)

    def add(self, spec: Spec) -> str:
        """The version that this training makes, promoted; returns its ref."""
        name = spec.args["name"]
        version = 1 + sum(one.name == name for one in self.manifests.values())
        evidence = {"metrics": {"accuracy": 0.95}}
        made = manifest(name, version, spec.args["task"], self.get(spec.args["base"]).manifest.ref, evidence=evidence)
        self.manifests[made.ref] = made
        self.promoted.setdefault(name, []).append(version)
        return made.ref

    def _view(self, one: Manifest) -> ModelView:
        base = None if one.base is None else self.manifests.get(one.base)
        able = capabilities_of(one, self._driver, base)
        return ModelView(one, is_promoted=self.promoted.get(one.name, [])[-1:] == [one.version], capabilities=able)


class MemoryProcesses:
    """Processes. Each stays queued until the test plays it; with `plays`, it runs to its end, which is `fault`."""

    def __init__(self, models: MemoryModels, *, plays: bool) -> None:
        self.table: dict[int, Process] = {}
        self.plays = plays
        self.fault: Fault | None = None
        self._models = models
        self._watchers: list[tuple[int | None, asyncio.Queue[StreamEvent]]] = []
        self._playing: set[asyncio.Task[None]] = set()
        self._sequence = 0

    async def submit(self, spec: Spec) -> Process:
        if declaration_of(spec.program).needs_base:
            self._models.get(spec.args["base"])
        pid = len(self.table) + 1
        self._put(Process(pid, spec, created_at=NOON))
        self._begin(pid)
        return self.table[pid]

    def _begin(self, pid: int) -> None:
        if self.plays:
            task = asyncio.get_running_loop().create_task(self.play(pid))
            self._playing.add(task)
            task.add_done_callback(self._playing.discard)

    async def play(self, pid: int) -> None:
        """Run a process to its end: a few reports, what it makes, then the fault or exit 0."""
        self.move(pid, State.STARTING, started_at=NOON)
        self.move(pid, State.READY)
        for done in (1.0, 2.0):
            self.report_progress(
                pid, Progress("train", done, 2.0, "steps", {"loss": 1 / done, "rate": 80.0, "eta_s": 1})
            )
            await asyncio.sleep(0)
        spec = self.table[pid].spec
        ends = {
            "quantize": "{model} is served in int8 already",
            "shrink": "a smaller {base} is ready",
            "adapt": "{base} has read its texts",
        }
        if said := ends.get(spec.program):
            self.report_progress(pid, Progress(DONE, 1, 1, message=said.format_map(spec.args)))
        if self.fault is not None:
            self.move(pid, State.EXITED, exit_code=1, fault=self.fault)
            return
        made = (self._models.add(spec),) if spec.program == "train" else ()
        self.move(pid, State.EXITED, exit_code=0, made=made, reason="It is as good as the version before")

    def move(self, pid: int, to: State, **changes: Any) -> Process:  # Any: fields of Process
        """Move a process, and say so to whoever watches."""
        return self._put(self.table[pid].moved(to, **changes))

    def report_progress(self, pid: int, progress: Progress) -> None:
        """A process says how far it is."""
        self._put(replace(self.table[pid], progress=progress), kind="progress")

    def all(self) -> list[Process]:
        return list(self.table.values())

    def get(self, pid: int) -> Process:
        if pid not in self.table:
            raise ProcessNotFound(f"No process {pid}. See them: llmos ps", pid=pid)
        return self.table[pid]

    async def kill(self, pid: int, *, force: bool = False) -> Process:
        return self._move(pid, State.EXITED, exit_code=137 if force else 143, reason="killed")

    async def suspend(self, pid: int) -> Process:
        return self._move(pid, State.SUSPENDED)

    async def resume(self, pid: int) -> Process:
        if self.get(pid).state is not State.INTERRUPTED:
            return self._move(pid, State.READY)
        self._begin(pid)
        return self._move(pid, State.QUEUED)

    async def nice(self, pid: int, priority: Priority) -> Process:
        process = self.get(pid)
        return self._put(replace(process, spec=replace(process.spec, priority=priority)))

    async def result(self, pid: int) -> bytes:
        return b'{"pid":%d}' % self.get(pid).pid

    async def report(self, pid: int) -> bytes:
        return b"<p>pid %d" % self.get(pid).pid

    async def export_part(self, pid: int, offset: int, limit: int) -> bytes:
        return (b"exported by %d" % self.get(pid).pid)[offset : offset + limit]

    async def log(self, pid: int, *, tail_lines: int | None = None) -> str:
        lines = [f"pid {self.get(pid).pid} line {number}\n" for number in (1, 2, 3)]
        return "".join(lines if tail_lines is None else lines[-tail_lines:])

    async def follow_log(self, pid: int, *, tail_lines: int | None = None) -> AsyncGenerator[str, None]:
        for line in (await self.log(pid, tail_lines=tail_lines)).splitlines(keepends=True):
            yield line

    async def watch(self, pid: int | None = None) -> AsyncGenerator[StreamEvent, None]:
        queue: asyncio.Queue[StreamEvent] = asyncio.Queue()
        watcher = (pid, queue)
        self._watchers.append(watcher)
        try:
            if pid is not None:
                queue.put_nowait(self._stream_event("process", self.get(pid)))
            while True:
                one = await queue.get()
                yield one
                if pid is not None and one.process is not None and one.process.is_ended:
                    return
        finally:
            self._watchers.remove(watcher)

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    def _move(self, pid: int, to: State, **changes: Any) -> Process:  # Any: fields of Process
        process = self.get(pid)
        try:
            return self.move(pid, to, **changes)
        except AssertionError:
            said = f"pid {pid} is {process.state} and cannot become {to}"
            raise IllegalMove(said, pid=pid, state=process.state) from None

    def _put(self, process: Process, kind: str = "process") -> Process:
        self.table[process.pid] = process
        stream_event = self._stream_event(kind, process)
        for pid, queue in self._watchers:
            if pid in (None, process.pid):
                queue.put_nowait(stream_event)
        return process

    def _stream_event(self, kind: str, process: Process) -> StreamEvent:
        self._sequence += 1
        return StreamEvent(self._sequence, NOON + self._sequence, kind, process.pid, process)


class MemoryCalls:
    """Calls, answered by an engine. `asked` and `cancelled` record them; while `gate` is set, they wait for it."""

    def __init__(self, models: MemoryModels, engine: Engine) -> None:
        self.asked: list[Call] = []
        self.cancelled: list[int] = []
        self.unloaded: list[str] = []
        self.origins: list[CallOrigin | None] = []  # of the calls, by a rollout
        self.engines: list[str] = []  # that were to answer the calls
        self.gate: asyncio.Event | None = None
        self.queue_times = Histogram(QUEUE_S)  # here nobody waits
        self._models = models
        self.engine = engine

    def ref(self, model: str) -> str:
        name, version = split_ref(model)
        candidates = [one.ref for one in self._models.manifests.values() if one.name == name]
        if version is None and candidates and not self._models.promoted.get(name):
            raise Conflict(f"No version of {name} is promoted. There are candidates: {', '.join(candidates)}")
        return self._models.get(model).manifest.ref

    def task_of(self, model: str) -> str:
        return self._models.get(self.ref(model)).manifest.task

    def unload(self, model: str) -> None:
        self.unloaded.append(self.ref(model))

    async def answer(self, request: CallRequest) -> Chunk:
        chunks = self._chunks(request, is_stream=False)
        async with aclosing(chunks):
            chunk = await anext(chunks)
        if chunk.fault is not None:
            raise error_of(chunk.fault)
        return chunk

    def stream(self, request: CallRequest) -> AsyncGenerator[Chunk, None]:
        return self._chunks(request, is_stream=True)

    def _put(self, call: Call) -> list[Chunk]:
        """Give the engine a call; the chunks that are its answer already."""
        told: list[Chunk] = []
        if call.operation is Operation.ANSWER:
            self.engine.add(call)
        elif call.operation is Operation.LOAD:
            whole(load_in_steps(call, told.append))()
        else:
            whole(tokenize_in_steps(self.engine.tokenizer_of(call.model), call, told.append))()
        return told

    async def _chunks(self, request: CallRequest, *, is_stream: bool) -> AsyncGenerator[Chunk, None]:
        inputs, params, priority = request.inputs, request.params, request.priority
        self.origins.append(request.origin)
        check_inputs(inputs, params)
        found = self._models.get(request.model).manifest
        self.engines.append(engine_of(found, request.engine))
        call = Call(
            len(self.asked) + 1,
            found.ref,
            request.task or found.task,
            inputs,
            params,
            is_stream,
            priority=priority,
            operation=request.operation,
        )
        if call.task not in allowed_tasks(found):
            said = f"{found.ref} does {found.task}, not {call.task}"
            raise WrongTask(said, model=found.ref, task=call.task, has=found.task)
        self.asked.append(call)
        is_over = False
        try:
            told = self._put(call)
            while not is_over:
                if self.gate is not None:
                    async with asyncio.timeout(request.timeout_s):
                        await self.gate.wait()
                for chunk in told or self.engine.step():
                    is_over = chunk.is_last
                    yield chunk
        except LlmosError as error:
            is_over = True
            yield Chunk(call.call_id, fault=fault_of(error))
        except TimeoutError:
            raise TimedOut(f"No answer within {request.timeout_s:g} s", timeout_s=request.timeout_s) from None
        finally:
            if not is_over:
                self.engine.cancel(call.call_id)
                self.cancelled.append(call.call_id)


class MemoryRollouts:
    """Rollouts that route as the kernel's do, and count nothing."""

    def __init__(self, models: MemoryModels) -> None:
        self.live: dict[str, LiveRollout] = {}
        self.ended: dict[str, Rollout] = {}
        self.scores: list[tuple[str, int, float]] = []
        self.differing: list[Disagreement] = []
        self._models = models

    def choose(self, model: str, user: str | None, inputs: Sequence[Json]) -> RoutedVersion | None:
        live = self.live.get(model)
        return None if live is None else live.choose(user, inputs)

    async def start(self, name: str, candidate: int, asked: dict[str, Json]) -> RolloutView:
        found = self._models.get(f"{name}:{candidate}").manifest
        if name in self.live:
            raise Conflict(f"{name} is being rolled out already", name=name)
        plan = plan_of(spec_of(found.task).family, candidate, **asked)
        promoted = self._models.promoted[name][-1]
        self.live[name] = LiveRollout(Rollout("0123456789ab", name, promoted, plan, NOON))
        return self.get(name)

    async def stop(self, name: str) -> RolloutView:
        if name not in self.live:
            raise NotFound(f"No rollout of {name} is under way", name=name)
        self.ended[name] = replace(self.live.pop(name).rollout, stage=Stage.STOPPED, ended_at=NOON)
        return self.get(name)

    def get(self, name: str) -> RolloutView:
        found = self.live[name].present if name in self.live else self.ended.get(name)
        if found is None:
            raise NotFound(f"{name} has had no rollout", name=name)
        return RolloutView(found, guard_states(found))

    async def watch(self, name: str) -> AsyncGenerator[RolloutView, None]:
        yield self.get(name)

    async def disagreements(self, name: str, user: str, limit: int) -> list[Disagreement]:
        found = [one for one in self.differing if one.model == name and user in ("", one.user)]
        return found[:limit]

    def observe_feedback(self, name: str, version: int, score: float, answer: str = "") -> bool:
        self.scores.append((name, version, score))
        return name in self.live


class MemoryKernel:
    """Kernel of kernel/interface.py. Calls are answered by the null engine, or by `engine`, whose models are loaded."""

    def __init__(self, *, plays: bool = False, report: str = "", engine: Engine | None = None) -> None:
        self.models = MemoryModels("null" if engine is None else DEFAULT, report)
        self.processes = MemoryProcesses(self.models, plays=plays)
        self.calls = MemoryCalls(self.models, engine or NullEngine())
        self.rollouts = MemoryRollouts(self.models)
        self.upload_limits = UploadLimits()
        self.in_use: set[str] = set()  # uploads that processes name
        self.now = NOON
        self.settings: dict[str, Any] = {}  # Any: settings that differ from the defaults
        for one in self.models.manifests.values() if engine is None else ():
            self.calls.engine.attach(ModelPath(one, "/nowhere"))

    @cached_property
    def uploads_folder(self) -> Path:
        """It goes with this object."""
        folder = mkdtemp(prefix="llmos-uploads-")
        finalize(self, rmtree, folder, ignore_errors=True)
        return Path(folder)

    @cached_property
    def _stored_uploads(self) -> Uploads:
        return Uploads(self.uploads_folder, self.upload_limits)

    @cached_property
    def uploads(self) -> UploadService:
        """As the kernel has it."""
        return UploadService(self._stored_uploads, lambda: self.in_use)

    @cached_property
    def files(self) -> FileService:
        """As the kernel has it."""
        return FileService(self._stored_uploads, lambda: self.in_use)

    @cached_property
    def batches(self) -> BatchService:
        """As the kernel has it; a test tells it how its processes end, by `look`."""
        return BatchService(self.uploads_folder / "batches", self.files, lambda: self.processes, lambda: NOON)

    @cached_property
    def requests(self) -> RequestService:
        """As the kernel has it, in a folder that goes with this object. `settings` are those of the log."""
        folder = mkdtemp(prefix="llmos-requests-")
        finalize(self, rmtree, folder, ignore_errors=True)
        return RequestService(replace(Config(home=Path(folder)), **self.settings))

    @cached_property
    def feedback(self) -> FeedbackService:
        """As the kernel has it; what arrives is told to nobody."""
        return FeedbackService(self.requests.log.folder.parent, self.requests, lambda: "00" * 32, lambda name: None)

    @cached_property
    def learning(self) -> MemoryLearning:
        return MemoryLearning(self.models.get)

    @cached_property
    def monitoring(self) -> MemoryMonitoring:
        return MemoryMonitoring(self.models.get)

    @cached_property
    def slos(self) -> SloService:
        """As the kernel has it, in a folder that goes with this object."""
        folder = mkdtemp(prefix="llmos-slos-")
        finalize(self, rmtree, folder, ignore_errors=True)
        orders: dict[str, Slo] = {}

        async def write(slo: Slo) -> None:
            orders.pop(slo.name, None)
            if slo.objectives:
                orders[slo.name] = slo

        return SloService(
            Path(folder), lambda: orders, write, self.models.get, EventStream(lambda: self.now), lambda: self.now
        )

    @cached_property
    def fine_tuning(self) -> FineTuningService:
        """As the kernel has it; a test tells it what its processes do, by `look`."""
        return FineTuningService(self.uploads_folder / "fine_tuning", lambda: self.processes, lambda: NOON)

    @cached_property
    def keys(self) -> KeyService:
        """As the kernel has it; without a key to begin with."""
        folder = mkdtemp(prefix="llmos-keys-")
        finalize(self, rmtree, folder, ignore_errors=True)
        return KeyService(Path(folder))

    @cached_property
    def usage(self) -> UsageService:
        """As the kernel has it, in a folder that goes with this object."""
        folder = mkdtemp(prefix="llmos-usage-")
        finalize(self, rmtree, folder, ignore_errors=True)
        return UsageService(Path(folder), Config(Path(folder)).usage_days)

    @cached_property
    def alerts(self) -> AlertService:
        """As the kernel has it, with a book in memory; a test looks at its rules, by `look`."""
        return memory_alerts(self.requests.log.folder.parent, lambda: NOON)

    @cached_property
    def audit_home(self) -> Path:
        """The home of its audit log; it goes with this object."""
        folder = mkdtemp(prefix="llmos-audit-")
        finalize(self, rmtree, folder, ignore_errors=True)
        return Path(folder)

    @cached_property
    def audit(self) -> AuditService:
        """As the kernel has it."""
        return AuditService(self.audit_home)

    def teach(self, name: str, task: str, base: str | None = "minilm:1") -> None:
        """Put a promoted model of this task into the store; without a base, it is one."""
        one = manifest(name, 1, task, base, method="lora" if base else None)
        self.models.manifests[one.ref] = one
        self.models.promoted[name] = [1]
        self.calls.engine.attach(ModelPath(one, "/nowhere"))

    def devices(self) -> list[Device]:
        return [Device("cpu0", "cpu", "A processor", 16_000_000_000, cores=2)]

    def status(self) -> Status:
        states: dict[str, int] = {}
        for process in self.processes.table.values():
            states[process.state] = states.get(process.state, 0) + 1
        lease = Lease(1, "cpu0", LeaseKind.WEIGHTS, 90_000_000)
        free = {"cpu0": 12_000_000_000}
        devices = tuple(self.devices())
        return Status(
            "0.0.0", 4242, "/home/box", NOON, 40_000_000, True, devices, (lease,), free, 0, states, {"minilm:1": 2}
        )

    async def snapshot(self) -> JournalSnapshot:
        return JournalSnapshot("/home/box", NOON, 2_000)


if TYPE_CHECKING:
    _IS_A_KERNEL: KernelInterface = MemoryKernel()
