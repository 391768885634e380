"""The kernel's interface for the API: processes, models, calls and uploads. llmos/testing has one in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from llmos.abi.alert import Alert, AlertSilence, AlertsView, AlertTest
from llmos.abi.api_types import DiskUse, JournalSnapshot, ModelView, Status, StreamEvent, Verified
from llmos.abi.audit import AuditEntry, AuditFilter, AuditReport
from llmos.abi.batch import Batch, BatchState
from llmos.abi.call import CallRequest, Chunk
from llmos.abi.call_record import CallRecord, RequestFilter
from llmos.abi.call_trace import CallTrace
from llmos.abi.device import Device
from llmos.abi.disagreement import Disagreement
from llmos.abi.feedback import FeedbackRow
from llmos.abi.fine_tuning import FineTuningJob, JobEvent, JobRequest
from llmos.abi.gate import Gate
from llmos.abi.histogram import Histogram
from llmos.abi.json_type import Json
from llmos.abi.key import ApiKey, NewKey
from llmos.abi.labelling import LabellingState
from llmos.abi.learning import LearningState
from llmos.abi.model import DatasetManifest
from llmos.abi.monitoring import MonitorState
from llmos.abi.process import Priority, Process, Spec
from llmos.abi.rollout import RolloutView
from llmos.abi.slo import SloState
from llmos.abi.upload import Upload
from llmos.abi.usage import UsageFilter, UsageRow
from llmos.kernel.keys.key_ledger import KeyLedger, Moment
from llmos.kernel.requests.call_row import CallRow
from llmos.kernel.requests.recent_traces import RecentTraces
from llmos.kernel.rollouts.live_rollout import RoutedVersion
from llmos.kernel.store.whole_file import WholeFile

__all__ = [
    "AlertsInterface",
    "AuditInterface",
    "BatchesInterface",
    "CallsInterface",
    "DiskUse",
    "FeedbackInterface",
    "FilesInterface",
    "FineTuningInterface",
    "KernelInterface",
    "KeysInterface",
    "LearningInterface",
    "ModelView",
    "ModelsInterface",
    "ProcessesInterface",
    "RequestsInterface",
    "RolloutsInterface",
    "Status",
    "StreamEvent",
    "UploadsInterface",
    "UsageInterface",
    "Verified",
]


class ProcessesInterface(Protocol):
    """Processes: started, listed, signalled, and watched."""

    async def submit(self, spec: Spec) -> Process:
        """Queue a process; BadInput at once for arguments that cannot work (unknown base, missing file, bad name)."""
        ...

    def all(self) -> list[Process]: ...
    def get(self, pid: int) -> Process: ...
    async def kill(self, pid: int, *, force: bool = False) -> Process:
        """Stop a process (a trainer checkpoints first); `force` sends SIGKILL. An interrupted one is ended for good."""
        ...

    async def suspend(self, pid: int) -> Process: ...
    async def resume(self, pid: int) -> Process:
        """Continue a suspended process, or queue an interrupted one again from its checkpoint."""
        ...

    async def nice(self, pid: int, priority: Priority) -> Process: ...
    async def result(self, pid: int) -> bytes:
        """What it has found, as JSON; NotFound if it has kept nothing."""
        ...

    async def report(self, pid: int) -> bytes:
        """Its report as an HTML page; NotFound if it has made none."""
        ...

    async def export_part(self, pid: int, offset: int, limit: int) -> bytes:
        """The bytes of the file that it has exported, from `offset` on, at most `limit`; NotFound if there is none."""
        ...

    async def log(self, pid: int, *, tail_lines: int | None = None) -> str: ...
    def follow_log(self, pid: int, *, tail_lines: int | None = None) -> AsyncGenerator[str, None]:
        """The log from its start or its last lines, as it grows, until the process has ended."""
        ...

    def watch(self, pid: int | None = None) -> AsyncGenerator[StreamEvent, None]:
        """Events from now on, of one process or of all; of one: its present state first, until it has ended."""
        ...


class ModelsInterface(Protocol):
    """The store's contents: models, datasets, and their disk use."""

    def all(self) -> list[ModelView]: ...
    def get(self, ref: str) -> ModelView:
        """For display: `name` (the promoted version, else the newest) or `name:version`; ModelNotFound otherwise."""
        ...

    def file(self, ref: str, path: str) -> str:
        """The path of a model's file on disk, such as its evaluation page; NotFound otherwise."""
        ...

    def predictions(self, ref: str, evaluation: int | None = None) -> tuple[str, int | None]:
        """The path of a version's predictions by row, and the evaluation that made them.

        The version's own (None), else those of its newest evaluation; NotFound, with the way to make some, otherwise.
        """
        ...

    def check_reports(self, ref: str, evaluation: int | None = None) -> tuple[str, ...]:
        """The folders in which `data check` keeps what it found in the datasets of these predictions; they may not be
        there."""
        ...

    async def promote(self, ref: str) -> ModelView: ...
    async def rollback(self, name: str) -> ModelView:
        """Promote the version promoted before this one; Conflict if there is none."""
        ...

    def gate(self, name: str) -> Gate:
        """What new versions of this name must meet to be promoted, whether there is one already or not."""
        ...

    async def set_gate(self, name: str, require: Sequence[str] | None, margin: float | None) -> Gate:
        """Replace the requirements, the margin or both; BadInput for what cannot be required."""
        ...

    async def reset_gate(self, name: str) -> Gate:
        """Back to the default policy."""
        ...

    async def remove(self, ref: str) -> list[str]:
        """Remove a version, or a whole name; Conflict if another model stands on it. Returns the removed refs."""
        ...

    def datasets(self) -> list[DatasetManifest]: ...
    def dataset(self, ref: str) -> DatasetManifest: ...
    async def dataset_rows(self, ref: str, split: str | None, start: int, limit: int) -> dict[str, Json]:
        """A page of a dataset's rows: {"split", "total", "start", "rows"}; `start` counts from 0."""
        ...

    def dataset_check(self, ref: str) -> tuple[str, str]:
        """The version that is meant, and the folder in which `data check` keeps what it found; it may not be there."""
        ...

    def labelling(self, ref: str, model: str | None, retrain: int | None) -> LabellingState:
        """How the labelling of a dataset stands, and the training of this model with it."""
        ...

    async def row_ids(self, texts: Sequence[str]) -> list[str]:
        """The ids that rows with these texts have here, of each the first row's."""
        ...

    async def remove_dataset(self, ref: str) -> list[str]: ...
    async def collect(self) -> int:
        """Garbage collection; returns the freed bytes."""
        ...

    async def disk_use(self) -> DiskUse: ...
    async def verify(self) -> Verified:
        """Read every byte of the store and compare it with its digest, also what was verified before."""
        ...


class CallsInterface(Protocol):
    """Calls to models."""

    def task_of(self, model: str) -> str:
        """The default task of a call to this name or ref; raises as `ref` does."""
        ...

    def ref(self, model: str) -> str:
        """The version (`name:version`) to which a call goes now; ModelNotFound otherwise.

        A bare name means its promoted version; Conflict, with the candidates, if there is none.
        """
        ...

    def unload(self, model: str) -> None:
        """Give back the memory of the version to which a call goes now; ModelNotFound otherwise.

        It stays if a call of it is open, and so does a base while any call of its process is.
        """
        ...

    async def answer(self, request: CallRequest) -> Chunk:
        """The whole answer; raises its error, or TimedOut. Cancelling the task cancels the call."""
        ...

    def stream(self, request: CallRequest) -> AsyncGenerator[Chunk, None]:
        """The answer in chunks. An error before the first chunk is raised at once; closing the iterator cancels the
        call.

        The last chunk comes within the request's `timeout_s`, or TimedOut is raised.
        """
        ...

    @property
    def queue_times(self) -> Histogram:
        """The waiting times of calls before they were sent to a serve process, since the daemon's start."""
        ...


class RequestsInterface(Protocol):
    """Records of calls: some in memory with their text, and the request log."""

    @property
    def is_on(self) -> bool:
        """Whether any record is kept."""
        ...

    @property
    def keeps_text(self) -> bool:
        """Whether inputs and answers are kept, in memory or in the log."""
        ...

    @property
    def written_count(self) -> int:
        """Records written to the log since the start."""
        ...

    @property
    def lost_count(self) -> int:
        """Records that the log lost since the start: the disk was full, or too many waited."""
        ...

    def note(self, row: CallRow, priority: str) -> None:
        """Keep a call that has ended, and had this priority. Never waits, never raises."""
        ...

    @property
    def traces(self) -> RecentTraces:
        """Where the stages of calls that have ended are kept."""
        ...

    @property
    def sent_traces_count(self) -> int:
        """Traces that a receiver of OpenTelemetry took since the start."""
        ...

    @property
    def lost_traces_count(self) -> int:
        """Traces that were to be sent since the start and were not: too many waited, or the receiver failed."""
        ...

    def trace(self, call_id: str) -> CallTrace:
        """How long each stage of a recent call took; NotFound otherwise."""
        ...

    async def find(self, wanted: RequestFilter) -> list[CallRecord]:
        """The newest records of the log that are wanted, without their texts."""
        ...

    async def get(self, call_id: str) -> CallRecord:
        """A record of the log, with its texts where they were kept; NotFound otherwise."""
        ...

    async def erase(self, user: str) -> int:
        """Delete every record of this user, in memory, the log and disagreements; returns how many the files had."""
        ...


class FeedbackInterface(Protocol):
    """What people say of answers."""

    async def call(self, call_id: str) -> CallRecord:
        """A call with its inputs; NotFound if they are kept nowhere."""
        ...

    def answer_to(self, ref: str, given: Json) -> CallRecord | None:
        """The latest call in memory with this one input to a version of this name."""
        ...

    def text_id(self, text: str) -> str:
        """The id of rows with this text, as datasets have it."""
        ...

    async def add(self, row: FeedbackRow) -> FeedbackRow:
        """Write a row, in place of an earlier one on the same call; it is durable when this returns."""
        ...

    async def find(self, model: str, user: str, limit: int) -> list[FeedbackRow]:
        """The newest rows of a model and of a user, where they are named."""
        ...

    async def erase(self, user: str) -> int:
        """Delete the rows that a user gave, and those on a user's calls; returns how many."""
        ...


class LearningInterface(Protocol):
    """Standing orders to learn from feedback."""

    async def order(self, name: str, source: str, when: str) -> LearningState:
        """Learn from now on; BadInput for what cannot be learned or waited for."""
        ...

    async def stop(self, name: str) -> LearningState:
        """Learn no more; what is at work goes on."""
        ...

    async def state(self, name: str) -> LearningState:
        """The order of this name, the rows that wait, and its steps."""
        ...


class RolloutsInterface(Protocol):
    """Candidates on live traffic beside their promoted versions."""

    def choose(self, model: str, user: str | None, inputs: Sequence[Json]) -> RoutedVersion | None:
        """The version that a call to this name goes to; None if no rollout of it is under way."""
        ...

    async def start(self, name: str, candidate: int, asked: dict[str, Json]) -> RolloutView:
        """Begin one; `asked` are fields of the plan. BadInput or Conflict for what cannot be rolled out."""
        ...

    async def stop(self, name: str) -> RolloutView:
        """End the one under way: all calls go to the promoted version again. NotFound if there is none."""
        ...

    def get(self, name: str) -> RolloutView:
        """The one under way, else the last one; NotFound if this name never had one."""
        ...

    def watch(self, name: str) -> AsyncGenerator[RolloutView, None]:
        """The view now, and after each change, until the rollout has ended."""
        ...

    async def disagreements(self, name: str, user: str, limit: int) -> list[Disagreement]:
        """The newest texts that are kept on which versions of this name disagreed."""
        ...

    def observe_feedback(self, name: str, version: int, score: float, answer: str = "") -> bool:
        """Somebody has scored an answer of a version, from 0 (wrong) to 1; whether a rollout has counted it.

        `answer` is the answer's id: of each only the first score counts.
        """
        ...


class AlertsInterface(Protocol):
    """Rules over metrics and events, and who is told."""

    def view(self) -> AlertsView:
        """All rules, channels, alerts, silences, and what is not sent yet."""
        ...

    async def reload(self) -> AlertsView:
        """Read the file now; BadInput, with the line, for a mistake."""
        ...

    async def silence(self, rule: str, for_s: float, reason: str) -> AlertSilence:
        """Tell nobody of this rule for a while; NotFound for no rule."""
        ...

    async def end_silence(self, rule: str) -> None:
        """NotFound if it is not silenced."""
        ...

    async def acknowledge(self, rule: str) -> Alert:
        """Do not tell of the rule's alert again; NotFound if none fires."""
        ...

    async def test(self, channel: str | None) -> list[AlertTest]:
        """Send a message to this channel, or to all, once and now; NotFound for no channel."""
        ...


class SlosInterface(Protocol):
    """Service level objectives of names: counters, burn rates, what is left of each budget."""

    @property
    def is_on(self) -> bool:
        """Whether any call is counted."""
        ...

    def note(self, ref: str, outcome: str, seconds: float) -> None:
        """Count a call that has ended. Never waits, never raises."""
        ...

    async def set(self, name: str, asked: Mapping[str, Json]) -> SloState:
        """Give a name these objectives (`{"p99": "50ms", "errors": "0.1%"}`); BadSetting for what is none."""
        ...

    async def remove(self, name: str) -> SloState:
        """End the SLO of a name; NotFound if it has none."""
        ...

    def get(self, name: str) -> SloState:
        """How it stands; NotFound if this name has none."""
        ...

    def all(self) -> list[SloState]: ...


class MonitoringInterface(Protocol):
    """Monitors: whether calls to a name differ from its version's reference rows."""

    @property
    def is_on(self) -> bool:
        """Whether any call is noted."""
        ...

    def watches(self, ref: str) -> bool:
        """Whether calls to this version are noted."""
        ...

    def note(self, ref: str, inputs: Sequence[Json], chunk: Chunk, *, keeps_text: bool) -> None:
        """Note a call's inputs and answers. Never waits, never raises."""
        ...

    async def start(self, name: str) -> MonitorState:
        """Begin to monitor the calls to a name, or go on; Conflict for one without a promoted version."""
        ...

    async def stop(self, name: str) -> MonitorState:
        """End the monitor of a name; what it has found stays."""
        ...

    async def get(self, name: str) -> MonitorState:
        """What the monitor of a name has found; NotFound if it never had one."""
        ...

    async def report(self, name: str) -> bytes:
        """The report page of its newest look, as HTML; NotFound before the first."""
        ...


class UploadsInterface(Protocol):
    """Files that clients send in parts, each durable before it is acknowledged."""

    @property
    def most_bytes(self) -> int:
        """The largest file that may be uploaded."""
        ...

    def all(self) -> list[Upload]: ...
    def get(self, name: str) -> Upload:
        """The uploaded file of this id; UploadNotFound otherwise."""
        ...

    async def create(self, name: str, size_bytes: int, sha256: str = "") -> Upload:
        """Begin a file; BadInput for its name or digest, TooLong, NoRoom or DiskFull beyond the limits."""
        ...

    async def append(self, name: str, offset: int, pieces: AsyncIterator[bytes]) -> Upload:
        """Write a part of a file; Conflict if it does not go on at this byte, BadInput if its digest is another.

        What came before an error is kept, and durable.
        """
        ...

    async def remove(self, name: str) -> Upload:
        """Remove a file; Conflict while a process uses it or a part of it is being sent."""
        ...


class FilesInterface(Protocol):
    """Files with a purpose, such as the lines of a batch: they come whole, and stay until they are removed."""

    def all(self) -> list[Upload]: ...
    def get(self, file_id: str) -> Upload:
        """The file with this id (`file-...`); UploadNotFound otherwise."""
        ...

    def path(self, file_id: str) -> Path:
        """Where its bytes are."""
        ...

    async def begin(self) -> WholeFile:
        """A draft, to be written, then kept or discarded."""
        ...

    async def write(self, draft: WholeFile, data: bytes) -> None:
        """Write these bytes behind the others; TooLong or DiskFull if they do not fit."""
        ...

    async def keep(self, draft: WholeFile, name: str, purpose: str, lifetime_s: float = 0.0) -> Upload:
        """The file of a draft; durable when this returns. With a `lifetime_s`, it is removed after that."""
        ...

    async def discard(self, draft: WholeFile) -> None: ...
    async def remove(self, file_id: str) -> Upload:
        """Remove a file; Conflict while a process uses it."""
        ...


class BatchesInterface(Protocol):
    """Batches: the requests of a file, each answered once."""

    def all(self) -> list[Batch]: ...
    def get(self, name: str) -> Batch:
        """The batch of this id; NotFound otherwise."""
        ...

    async def state(self, batch: Batch) -> BatchState:
        """How far it is now."""
        ...

    async def create(
        self, input_file_id: str, endpoint: str, window: str, metadata: Mapping[str, Json], key: str = ""
    ) -> Batch:
        """Queue the requests of a file, with the rights of this key; it is durable when this returns."""
        ...

    async def cancel(self, name: str) -> Batch:
        """End it; what was answered stays. Conflict if it has ended."""
        ...

    def lines_so_far(self, file_id: str) -> Path | None:
        """The file of a batch that has not ended, as far as it is written; None if no batch has this file."""
        ...


class FineTuningInterface(Protocol):
    """Fine-tuning jobs: trainings known by an id that outlives their process."""

    def all(self) -> list[FineTuningJob]: ...
    def get(self, name: str) -> FineTuningJob:
        """The job of this id; NotFound otherwise."""
        ...

    def process(self, job: FineTuningJob) -> Process | None:
        """Its process, as long as that is known."""
        ...

    async def events(self, job: FineTuningJob) -> list[JobEvent]:
        """What has happened in it, the oldest first."""
        ...

    async def create(self, asked: JobRequest, args: Mapping[str, Json], key: str = "") -> FineTuningJob:
        """Queue the training of a recipe, begun by this key; it is durable when this returns."""
        ...

    async def cancel(self, name: str) -> FineTuningJob:
        """End it; it makes no model. Conflict if it has ended."""
        ...

    async def pause(self, name: str) -> FineTuningJob:
        """Stop it at a checkpoint, and release its memory. Conflict if it has ended, or not begun."""
        ...

    async def resume(self, name: str) -> FineTuningJob:
        """Continue a paused job from its checkpoint. Conflict if it is not paused."""
        ...


class KeysInterface(Protocol):
    """Keys, and the ledgers of their limits."""

    @property
    def is_needed(self) -> bool:
        """Whether requests need a key."""
        ...

    def moment(self) -> Moment: ...
    def find(self, secret: str) -> ApiKey | None:
        """The key of this secret; None for an unknown one, of which nothing is kept."""
        ...

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id as it is now; None if it was removed."""
        ...

    def ledger(self, key: ApiKey) -> KeyLedger: ...
    def all(self) -> list[ApiKey]: ...
    async def create(self, wanted: ApiKey) -> NewKey:
        """Make a key with these rights; its id and time are given here. BadInput for one that could do nothing."""
        ...

    async def rotate(self, key_id: str, grace_s: float = 0.0) -> NewKey:
        """Give a key another secret; the present one is taken for `grace_s` seconds more. KeyNotFound otherwise."""
        ...

    async def remove(self, key_id: str) -> ApiKey:
        """Remove a key; KeyNotFound otherwise, Conflict for the last one where others can reach the daemon."""
        ...


class UsageInterface(Protocol):
    """Usage by key, model and day."""

    def count(self, key: str, model: str, *, is_ok: bool, input_tokens: int, output_tokens: int) -> None:
        """Count a call that has ended."""
        ...

    async def find(self, wanted: UsageFilter) -> list[UsageRow]:
        """What was used until now, added up as is wanted."""
        ...


class AuditInterface(Protocol):
    """The audit log: what changed state, and by whom."""

    async def add(self, entry: AuditEntry) -> None:
        """Write this entry; at the end it is on the disk, or was lost and counted."""
        ...

    async def find(self, wanted: AuditFilter) -> list[AuditEntry]:
        """The newest entries that are wanted, the newest first."""
        ...

    async def verify(self) -> AuditReport:
        """Read the whole log, and say where it is not as it was written."""
        ...


class KernelInterface(Protocol):
    """The API's only access to the kernel. Methods raise the errors of abi/error.py."""

    @property
    def processes(self) -> ProcessesInterface: ...
    @property
    def models(self) -> ModelsInterface: ...
    @property
    def calls(self) -> CallsInterface: ...
    @property
    def uploads(self) -> UploadsInterface: ...
    @property
    def files(self) -> FilesInterface: ...
    @property
    def batches(self) -> BatchesInterface: ...
    @property
    def requests(self) -> RequestsInterface: ...
    @property
    def feedback(self) -> FeedbackInterface: ...
    @property
    def learning(self) -> LearningInterface: ...
    @property
    def fine_tuning(self) -> FineTuningInterface: ...
    @property
    def keys(self) -> KeysInterface: ...
    @property
    def rollouts(self) -> RolloutsInterface: ...
    @property
    def usage(self) -> UsageInterface: ...
    @property
    def alerts(self) -> AlertsInterface: ...
    @property
    def slos(self) -> SlosInterface: ...
    @property
    def monitoring(self) -> MonitoringInterface: ...
    @property
    def audit(self) -> AuditInterface: ...
    def devices(self) -> list[Device]: ...
    def status(self) -> Status: ...
    async def snapshot(self) -> JournalSnapshot:
        """Write the snapshot beside the journal, with all that was acknowledged until now."""
        ...
