"""Fine-tuning jobs for the API: each is a view of a `train` process, with a record and events that outlive it.

A job that nobody paused goes on by itself after a crash of its process or of the daemon, from its checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from llmos.abi.error import Conflict, LlmosError, NotFound
from llmos.abi.fine_tuning import FineTuningJob, JobEnd, JobEvent, JobRequest, JobStatus
from llmos.abi.json_type import Json
from llmos.abi.process import Priority, Process, Program, Spec, State, of_program
from llmos.abi.wire import from_json, to_json
from llmos.kernel.interface import ProcessesInterface
from llmos.kernel.processes.process_service import STOPPED
from llmos.kernel.processes.process_table import GOES_DOWN
from llmos.kernel.store.records import Records

MOST_JOBS = 2_000  # kept; the oldest that have ended make room
CONTINUATIONS = 5  # of one job, after crashes
MOST_STEPS_SHOWN = 100  # events with figures, besides those of epochs
EVENTS = ".events.jsonl"
TRAIN = Program("train")
T = TypeVar("T")
log = logging.getLogger(__name__)


class FineTuningService:
    """All jobs of a home. Call `start` before anything else."""

    def __init__(self, folder: Path, processes: Callable[[], ProcessesInterface], clock: Callable[[], float]) -> None:
        self._folder = folder
        self._processes = processes
        self._clock = clock
        self._records: Records[FineTuningJob] = Records(folder, FineTuningJob)
        self.by_pid: dict[int, str] = {}  # whose processes are to be looked at
        self._seen: dict[int, tuple[State, str, int]] = {}  # of each process: what the last events were about
        self._counts: dict[str, int] = {}  # of events of a job
        self._writer = ThreadPoolExecutor(1, "fine-tuning")  # one thread: what is written keeps its order
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read the records, and make up for what happened while nobody looked."""
        await self._beside(self._records.read)
        known = {one.pid: one for one in self._processes().all()}
        for job in list(self._records.known.values()):
            if job.end is not None:
                continue
            if job.pid is None:  # a crash before anyone was told of it
                if (process := self._begun_for(job)) is None:
                    await self._beside(self._forget, job.id)
                    continue
                await self._change(job.id, pid=process.pid)
                job = self.get(job.id)
                assert job.pid is not None, job.id
            self.by_pid[job.pid] = job.id
            if job.pid in known:
                self.look(known[job.pid], is_start=True)
            else:
                self._end(job.id, self._lost_end())

    def _begun_for(self, job: FineTuningJob) -> Process | None:
        """The process that was begun for a job, if the crash came before its record had it."""
        taken = {one.pid for one in self._records.known.values()}
        wanted = {"name": job.name, "seed": job.asked.seed}
        return next(
            (
                one
                for one in of_program(self._processes().all(), TRAIN)
                if one.pid not in taken and {key: one.spec.args.get(key) for key in wanted} == wanted
            ),
            None,
        )

    def all(self) -> list[FineTuningJob]:
        """Every job, the oldest first."""
        return sorted(self._records.known.values(), key=lambda one: (one.created_at, one.id))

    def get(self, name: str) -> FineTuningJob:
        """The job of this id; NotFound otherwise."""
        if name not in self._records.known:
            raise NotFound(f"No fine-tuning job {name[:80]!r}. All: GET /v1/fine_tuning/jobs", job=name[:80])
        return self._records.known[name]

    def process(self, job: FineTuningJob) -> Process | None:
        """Its process, as long as that is known."""
        return next((one for one in self._processes().all() if one.pid == job.pid), None)

    async def events(self, job: FineTuningJob) -> list[JobEvent]:
        """What has happened in it, the oldest first."""
        return await self._beside(self._read_events, job.id)

    async def create(self, asked: JobRequest, args: Mapping[str, Json], key: str = "") -> FineTuningJob:
        """Queue the training of a recipe, begun by this key; it is durable when this returns."""
        name = str(args.get("name") or "")
        job = FineTuningJob(f"ftjob-{secrets.token_hex(12)}", asked, self._clock(), name=name, key=key)
        await self._make_room()
        await self._beside(self._records.put, job.id, job)
        try:
            process = await self._processes().submit(Spec(TRAIN, dict(args), priority=Priority.BACKGROUND))
        except BaseException:
            await self._beside(self._forget, job.id)
            raise
        await self._change(job.id, pid=process.pid)
        self.by_pid[process.pid] = job.id
        self._tell(job.id, f"Created fine-tuning job: {job.id} (process {process.pid})")
        self.look(self._processes().get(process.pid))
        return self.get(job.id)

    async def cancel(self, name: str) -> FineTuningJob:
        """End it; it makes no model. Conflict if it has ended."""
        self._going(name, "cancel")
        await self._change(name, is_cancelled=True)
        return await self._kill(name)

    async def pause(self, name: str) -> FineTuningJob:
        """Stop it at a checkpoint, and release its memory. Conflict if it has ended, or not begun."""
        job = self._going(name, "pause")
        process = self.process(job)
        if process is not None and process.state is State.QUEUED:
            raise Conflict(f"{name} has not begun: there is nothing to pause. It can be cancelled", job=name)
        await self._change(name, is_paused=True)
        if process is not None and process.state is State.INTERRUPTED:
            return self.get(name)
        return await self._kill(name)

    async def resume(self, name: str) -> FineTuningJob:
        """Continue a paused job from its checkpoint. Conflict if it is not paused."""
        job = self._going(name, "resume")
        process = self.process(job)
        if process is None or process.state not in (State.INTERRUPTED, State.SUSPENDED):
            raise Conflict(f"{name} is not paused", job=name)
        await self._change(name, is_paused=False)
        await self._processes().resume(process.pid)
        return self.get(name)

    def look(self, process: Process, *, is_start: bool = False) -> None:
        """Note what a job's process says, and its end; called for each change of any process."""
        name = self.by_pid.get(process.pid)
        if name is None or name not in self._records.known:
            return
        job, progress = self.get(name), process.progress
        state, message, step = self._seen.get(process.pid, (None, "", -1))
        if progress is not None and progress.message and progress.message != message:
            self._tell(name, progress.message, data=progress.figures)
        if progress is not None and progress.phase == "train" and progress.total:
            share = int(progress.done * MOST_STEPS_SHOWN / progress.total)
            if share != step:
                step = share
                loss = progress.figures.get("loss")
                said = "training loss is no number" if loss is None else f"training loss={loss:.4f}"
                said = f"Step {progress.done:.0f}/{progress.total:.0f}: {said}"
                figures = {"step": progress.done, "total_steps": progress.total, **progress.figures}
                self._tell(name, said, type="metrics", data=figures)
                self._records.known[name] = job = replace(job, figures=figures)
        self._seen[process.pid] = (process.state, progress.message if progress is not None else message, step)
        if process.state is not state or is_start:
            self._on_state(job, process, is_start=is_start)

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writer.shutdown(wait=True)

    # Changes of the process.

    def _on_state(self, job: FineTuningJob, process: Process, *, is_start: bool) -> None:
        if process.state is State.EXITED:
            self._end(job.id, end_of(job, process, self._clock()))
            self.by_pid.pop(process.pid, None)
            self._seen.pop(process.pid, None)
        elif process.state is State.INTERRUPTED:
            self._on_interrupted(job, process, is_start=is_start)
        elif process.state is State.READY:
            self._tell(job.id, "Fine-tuning job started" if not job.continued else "Fine-tuning job goes on")

    def _on_interrupted(self, job: FineTuningJob, process: Process, *, is_start: bool) -> None:
        """A cancelled job is given up; one that nobody stopped goes on."""
        is_wished = job.is_paused or process.reason.startswith(STOPPED)
        is_down = process.reason.startswith(GOES_DOWN) and not is_start
        if job.is_cancelled:
            self._soon(self._give_up(process.pid))
        elif is_wished or is_down or job.continued >= CONTINUATIONS:
            self._tell(job.id, f"Fine-tuning job paused: {process.reason}")
        else:
            self._tell(job.id, f"Fine-tuning job was interrupted, and goes on: {process.reason}", level="warn")
            self._soon(self._go_on(job, process.pid, is_start=is_start))

    async def _give_up(self, pid: int) -> None:
        await self._processes().kill(pid)

    async def _go_on(self, job: FineTuningJob, pid: int, *, is_start: bool) -> None:
        await self._change(job.id, continued=job.continued + (not is_start))
        await self._processes().resume(pid)

    async def _kill(self, name: str) -> FineTuningJob:
        pid = self.get(name).pid
        assert pid is not None, f"{name} has no process"
        await self._processes().kill(pid)
        return self.get(name)

    def _going(self, name: str, verb: str) -> FineTuningJob:
        job = self.get(name)
        if job.end is not None or job.is_cancelled:
            raise Conflict(f"Cannot {verb} {name}: it has ended, or is about to", job=name)
        return job

    def _lost_end(self) -> JobEnd:
        return JobEnd(JobStatus.FAILED, self._clock(), code="process_not_found", message="its process is not known")

    # Records and events.

    def _tell(
        self,
        name: str,
        message: str,
        *,
        level: str = "info",
        type: str = "message",
        data: Mapping[str, float] | None = None,
    ) -> None:
        """Add an event."""
        event = JobEvent(0, self._clock(), message, level, type, dict(data or {}))
        self._soon(self._beside(self._write_event, name, event))

    def _end(self, name: str, end: JobEnd) -> None:
        level = "error" if end.status is JobStatus.FAILED else "info"
        words = {
            JobStatus.SUCCEEDED: "The job has successfully completed",
            JobStatus.CANCELLED: "The job was cancelled",
        }
        self._tell(name, words.get(end.status, f"The job failed: {end.message}"), level=level)
        self._soon(self._change(name, end=end))

    def _change(self, name: str, **changes: Any) -> asyncio.Future[None]:  # Any: fields of FineTuningJob
        """Change a record: known at once, so that no other change is lost, and written in its turn."""
        self._records.known[name] = replace(self.get(name), **changes)
        return self._beside(self._records.write, name)

    def _soon(self, work: Awaitable[object]) -> None:
        async def run() -> None:
            try:
                await work
            except LlmosError as error:
                log.warning("a fine-tuning job: %s", error.message)
            except Exception:  # the top of a work beside the loop
                log.exception("a fine-tuning job")

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _beside(self, work: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Begun in its turn, also if nobody waits."""
        return asyncio.get_running_loop().run_in_executor(self._writer, work, *args)

    def _write_event(self, name: str, event: JobEvent) -> None:
        if name not in self._counts:
            self._counts[name] = len(self._read_events(name))
        number = self._counts[name]
        with (self._folder / f"{name}{EVENTS}").open("ab") as file:
            file.write(to_json(replace(event, number=number)) + b"\n")
        self._counts[name] = number + 1

    def _read_events(self, name: str) -> list[JobEvent]:
        path = self._folder / f"{name}{EVENTS}"
        found: list[JobEvent] = []
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                found.append(from_json(line, JobEvent))
            except (LlmosError, msgspec.DecodeError):  # torn by a crash
                continue
        return found

    def _forget(self, name: str) -> None:
        self._records.remove(name)
        (self._folder / f"{name}{EVENTS}").unlink(missing_ok=True)

    async def _make_room(self) -> None:
        """Forget the oldest that have ended, if there are too many; Conflict if none has."""
        surplus = len(self._records.known) + 1 - MOST_JOBS
        over = [one for one in self.all() if one.end is not None][: max(0, surplus)]
        if len(over) < surplus:
            raise Conflict(f"{MOST_JOBS:,} fine-tuning jobs have not ended. Wait for some", limit=MOST_JOBS)
        for job in over:
            await self._beside(self._forget, job.id)


def status_of(job: FineTuningJob, process: Process | None) -> JobStatus:
    """How far a job is, by its record and its process."""
    if job.end is not None:
        return job.end.status
    if job.is_cancelled:
        return JobStatus.CANCELLED
    if process is None or process.state is State.QUEUED:
        return JobStatus.QUEUED
    if job.is_paused or process.state in (State.SUSPENDED, State.INTERRUPTED):
        return JobStatus.PAUSED
    return JobStatus.RUNNING


def end_of(job: FineTuningJob, process: Process, now: float) -> JobEnd:
    """How a job has ended whose process has exited."""
    model = next((ref for ref in reversed(process.made) if ":" in ref), None)
    if process.fault is None and model is not None:
        return JobEnd(JobStatus.SUCCEEDED, now, model, message=process.reason)
    if job.is_cancelled or (process.fault is None and process.reason.startswith(STOPPED)):
        return JobEnd(JobStatus.CANCELLED, now, message=process.reason)
    code = process.fault.code if process.fault is not None else "process_died"
    said = process.fault.message if process.fault is not None else process.reason
    return JobEnd(JobStatus.FAILED, now, code=code, message=said or "its process ended")
