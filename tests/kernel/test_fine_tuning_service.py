"""Fine-tuning jobs of a home: views of processes, with events, that outlive process and daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.error import BadInput, Conflict, Fault, NotFound
from llmos.abi.fine_tuning import FineTuningJob, JobRequest, JobStatus
from llmos.abi.process import Process, Program, Progress, Spec, State
from llmos.kernel.fine_tuning_service import CONTINUATIONS, FineTuningService, status_of
from llmos.kernel.processes.process_service import STOPPED
from llmos.kernel.processes.process_table import GOES_DOWN
from llmos.kernel.store.records import Records

ASKED = JobRequest("smollm2", "file-1", {"type": "supervised"}, 3)
Act = Callable[[FineTuningService], Awaitable[Any]]  # Any: what it gives


class Processes:
    """Remembers what was asked; a test moves the processes."""

    def __init__(self) -> None:
        self.table: dict[int, Process] = {}
        self.done: list[tuple[str, int]] = []
        self.error: Exception | None = None

    async def submit(self, spec: Spec) -> Process:
        if self.error is not None:
            raise self.error
        process = Process(len(self.table) + 1, spec)
        self.table[process.pid] = process
        return process

    async def kill(self, pid: int) -> Process:
        self.done.append(("kill", pid))
        return self.table[pid]

    async def resume(self, pid: int) -> Process:
        self.done.append(("resume", pid))
        return self.table[pid]

    def get(self, pid: int) -> Process:
        return self.table[pid]

    def all(self) -> list[Process]:
        return list(self.table.values())

    def move(self, **changes: Any) -> Process:  # Any: fields of Process
        self.table[1] = replace(self.table[1], **changes)
        return self.table[1]


class Home:
    """A home whose daemon may end and start again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = Processes()

    def __call__(self, act: Act) -> Any:
        """One life of the daemon."""

        async def live() -> Any:
            jobs = FineTuningService(self.folder, lambda: self.processes, lambda: 1_000.0)  # type: ignore[arg-type,return-value]
            await jobs.start()
            try:
                return await act(jobs)
            finally:
                await asyncio.sleep(0)
                await jobs.close()

        return asyncio.run(live())

    def see(self, **changes: Any) -> FineTuningJob:  # Any: fields of Process
        """The process changes while the daemon looks; returns the job."""

        async def look(jobs: FineTuningService) -> None:
            jobs.look(self.processes.move(**changes))

        self(look)
        return self.job

    @property
    def job(self) -> FineTuningJob:
        async def one(jobs: FineTuningService) -> FineTuningJob:
            return jobs.all()[0]

        return self(one)

    @property
    def messages(self) -> list[str]:
        async def read(jobs: FineTuningService) -> list[str]:
            return [one.message for one in await jobs.events(jobs.all()[0])]

        return self(read)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one job that has begun."""
    home = Home(tmp_path)
    home(lambda jobs: jobs.create(ASKED, {"task": "chat"}))
    home.see(state=State.READY)
    return home


def test_a_job_is_a_training_and_keeps_its_id_through_restarts(home: Home):
    job = home.job
    assert (job.pid, job.asked, job.id[:6]) == (1, ASKED, "ftjob-")
    assert home.processes.get(1).spec.program == "train"
    assert status_of(job, home.processes.get(1)) is JobStatus.RUNNING
    assert home.messages[0] == f"Created fine-tuning job: {job.id} (process 1)"


def test_figures_and_messages_of_the_training_are_events(home: Home):
    async def look(jobs: FineTuningService) -> list[Any]:
        for step in range(1, 1_001):
            figures = {"loss": 1 / step, "metric": 0.5}
            message = "epoch 1: loss 0.1" if step == 500 else ""
            jobs.look(home.processes.move(progress=Progress("train", step, 1_000, "steps", figures, message)))
        return await jobs.events(jobs.all()[0])

    events = home(look)
    metrics = [one for one in events if one.type == "metrics"]
    assert 90 <= len(metrics) <= 101
    assert metrics[-1].data == {"step": 1_000, "total_steps": 1_000, "loss": 0.001, "metric": 0.5}
    assert [one.message for one in events].count("epoch 1: loss 0.1") == 1
    assert [one.number for one in events] == list(range(len(events)))


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "while the daemon was down"])
def test_the_model_of_a_process_that_ended_well_is_the_jobs(home: Home, is_seen: bool):
    changes: dict[str, Any] = {"state": State.EXITED, "exit_code": 0, "made": ("rows@1", "ft-smollm2-x:1")}
    if is_seen:
        home.see(**changes)
    else:
        home.processes.move(**changes)
    end = home.job.end
    assert end is not None
    assert (end.status, end.model) == (JobStatus.SUCCEEDED, "ft-smollm2-x:1")
    assert home.messages[-1] == "The job has successfully completed"
    home.processes.table.clear()  # the journal forgets old processes
    assert home.job.end == end


def test_a_fault_fails_the_job_with_its_code(home: Home):
    end = home.see(state=State.EXITED, fault=Fault("bad_row", "line 3 has no answer")).end
    assert end is not None
    assert (end.status, end.code, end.message) == (JobStatus.FAILED, "bad_row", "line 3 has no answer")
    assert "line 3" in home.messages[-1]


def test_a_crash_is_made_up_for_a_few_times(home: Home):
    for count in range(1, CONTINUATIONS + 1):
        assert home.see(state=State.INTERRUPTED, reason="ended by signal 9").continued <= count + 1
        home.processes.move(state=State.READY)
        home.see(state=State.READY)
    assert ("resume", 1) in home.processes.done


def test_a_start_of_the_daemon_continues_what_no_user_stopped(home: Home):
    home.processes.move(state=State.INTERRUPTED, reason=f"{GOES_DOWN}; go on with: llmos resume 1")
    assert home.job.continued == 0
    assert home.processes.done[0] == ("resume", 1)
    home.processes.done.clear()
    home.processes.move(state=State.INTERRUPTED, reason=f"{STOPPED}; go on with: llmos resume 1")
    assert status_of(home.job, home.processes.get(1)) is JobStatus.PAUSED
    assert home.processes.done == []


def test_a_paused_job_waits_and_goes_on_when_it_is_resumed(home: Home):
    name = home.job.id
    home(lambda jobs: jobs.pause(name))
    assert home.processes.done == [("kill", 1)]
    home.see(state=State.INTERRUPTED, reason=f"{STOPPED}; go on")
    assert status_of(home.job, home.processes.get(1)) is JobStatus.PAUSED
    home(lambda jobs: jobs.resume(name))
    assert home.processes.done == [("kill", 1), ("resume", 1)]
    assert home.job.is_paused is False


def test_a_cancelled_job_is_given_up_and_makes_no_model(home: Home):
    name = home.job.id
    home(lambda jobs: jobs.cancel(name))
    assert status_of(home.job, home.processes.get(1)) is JobStatus.CANCELLED
    home.see(state=State.INTERRUPTED, reason=STOPPED)
    assert home.processes.done[:2] == [("kill", 1), ("kill", 1)]
    end = home.see(state=State.EXITED, reason=STOPPED).end
    assert end is not None
    assert end.status is JobStatus.CANCELLED

    async def again(jobs: FineTuningService) -> None:
        for act in (jobs.cancel, jobs.pause, jobs.resume):
            with pytest.raises(Conflict):
                await act(name)

    home(again)


def test_a_job_that_waits_cannot_be_paused_or_resumed(tmp_path: Path):
    home = Home(tmp_path)

    async def act(jobs: FineTuningService) -> None:
        job = await jobs.create(ASKED, {})
        assert status_of(job, home.processes.get(1)) is JobStatus.QUEUED
        for verb in (jobs.pause, jobs.resume):
            with pytest.raises(Conflict):
                await verb(job.id)
        with pytest.raises(NotFound):
            jobs.get("ftjob-0")

    home(act)


def test_a_job_whose_recipe_is_refused_leaves_nothing(tmp_path: Path):
    home = Home(tmp_path)
    home.processes.error = BadInput("no")

    async def act(jobs: FineTuningService) -> None:
        with pytest.raises(BadInput):
            await jobs.create(ASKED, {})
        assert jobs.all() == []

    home(act)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_loses_neither_the_event_nor_the_job(home: Home):
    figures = {"loss": float("nan"), "rate": float("inf"), "epoch": 1.0}
    home.see(progress=Progress("train", 1, 2, "steps", figures, "The loss is no number"))
    home.see(progress=Progress("train", 2, 2, "steps", figures))

    async def pause(jobs: FineTuningService) -> None:
        await jobs.pause(jobs.all()[0].id)  # writes its record

    home(pause)
    assert home.job.is_paused
    assert "The loss is no number" in home.messages
    assert "Step 1/2: training loss is no number" in home.messages


def test_a_training_whose_job_a_crash_has_cut_off_is_no_orphan(tmp_path: Path):
    home = Home(tmp_path)
    args = {"task": "chat", "name": "ft-a", "seed": ASKED.seed}
    home.processes.table[1] = Process(1, Spec(Program("train"), {**args, "seed": 4}))
    home.processes.table[2] = Process(2, Spec(Program("train"), args))
    Records(tmp_path, FineTuningJob).put("ftjob-1", FineTuningJob("ftjob-1", ASKED, 1_000.0, name="ft-a"))
    assert (home.job.id, home.job.pid) == ("ftjob-1", 2)


def test_a_job_that_no_training_was_begun_for_is_forgotten(tmp_path: Path):
    home = Home(tmp_path)
    Records(tmp_path, FineTuningJob).put("ftjob-1", FineTuningJob("ftjob-1", ASKED, 1_000.0, name="ft-a"))

    async def jobs_of(jobs: FineTuningService) -> list[FineTuningJob]:
        return jobs.all()

    assert home(jobs_of) == []
