"""Batches of a home: durable before they begin, settled however they end, and made up for after a crash."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.batch import ERRORS, OUTPUT, STATE, Batch, BatchState, BatchStatus, window_s
from llmos.abi.error import BadInput, Conflict, Fault, NotFound, UploadNotFound
from llmos.abi.process import Process, Spec, State
from llmos.abi.wire import to_json
from llmos.kernel.batch_service import BatchService
from llmos.kernel.file_service import FileService
from llmos.kernel.store.uploads import Uploads
from llmos.testing.errors import fails_with

ROUTE = "/v1/embeddings"


class Processes:
    """Remembers what was submitted and killed; a test moves the processes."""

    def __init__(self) -> None:
        self.table: dict[int, Process] = {}
        self.killed: list[int] = []
        self.error: Exception | None = None
        self.ends: Fault | None = None  # each process, at once
        self.before: Callable[[], Awaitable[Any]] | None = None  # what happens before one is known

    async def submit(self, spec: Spec) -> Process:
        if self.error is not None:
            raise self.error
        if self.before is not None:
            await self.before()
        process = Process(len(self.table) + 1, spec)
        self.table[process.pid] = process
        if self.ends is not None:
            self.move(process.pid, State.EXITED, exit_code=1, fault=self.ends)
        return process

    def get(self, pid: int) -> Process:
        return self.table[pid]

    async def kill(self, pid: int) -> Process:
        self.killed.append(pid)
        return self.table[pid]

    def all(self) -> list[Process]:
        return list(self.table.values())

    def move(self, pid: int, state: State, **changes: Any) -> Process:  # Any: fields of Process
        self.table[pid] = replace(self.table[pid], state=state, **changes)
        return self.table[pid]


class Home:
    """A home whose daemon may end and start again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = Processes()
        self.now = 1_000_000.0

    def __call__(self, act: Callable[[BatchService, FileService], Awaitable[Any]]) -> Any:  # Any: what `act` gives
        """One life of the daemon."""

        async def live() -> Any:
            files = FileService(Uploads(self.folder / "uploads", clock=lambda: self.now), lambda: ())
            batches = BatchService(
                self.folder / "batches",
                files,
                lambda: self.processes,  # type: ignore[arg-type,return-value]  # as much of it as is used
                lambda: self.now,
            )
            await batches.start()
            try:
                return await act(batches, files)
            finally:
                await batches.close()
                files.close()

        return asyncio.run(live())

    def write(self, batch: Batch, state: BatchState, output: int = 0, errors: int = 0) -> None:
        """What the batch's process has written so far."""
        folder = self.folder / "batches" / batch.id
        (folder / STATE).write_bytes(to_json(state))
        for name, count in ((OUTPUT, output), (ERRORS, errors)):
            (folder / name).write_text("".join(json.dumps({"custom_id": str(i)}) + "\n" for i in range(count)))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def begin(batches: BatchService, files: FileService, purpose: str = "batch") -> Batch:
    draft = await files.begin()
    await files.write(draft, b"{}\n")
    kept = await files.keep(draft, "in.jsonl", purpose)
    return await batches.create(kept.file_id, ROUTE, "24h", {"for": "tests"})


def test_a_batch_is_a_process_with_the_file_and_outlives_the_daemon(home: Home):
    batch: Batch = home(begin)
    (process,) = home.processes.all()
    assert (process.spec.program, process.spec.args["batch"]) == ("batch", batch.id)
    assert process.spec.args["input"] == batch.input_file_id.replace("file-", "upload:")
    assert (batch.pid, batch.expires_at) == (1, home.now + 86_400)

    async def look(batches: BatchService, files: FileService) -> None:
        assert batches.all() == [batch]
        assert (await batches.state(batch)).status is BatchStatus.VALIDATING

    home(look)


def test_a_process_that_ends_before_it_is_known_here_ends_its_batch(home: Home):
    home.processes.ends = Fault("no_room", "it does not fit")

    async def settled(batches: BatchService, files: FileService) -> BatchState:
        batch = await begin(batches, files)
        await batches.close()
        return await batches.state(batches.get(batch.id))

    state: BatchState = home(settled)
    assert (state.status, state.faults[0].message) == (BatchStatus.FAILED, "it does not fit")


@pytest.mark.parametrize("status", [BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.FAILED])
@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "while the daemon was down"])
def test_the_end_of_its_process_is_the_end_of_the_batch(home: Home, status: BatchStatus, is_seen: bool):
    batch: Batch = home(begin)
    home.write(batch, BatchState(status, 5, 3, 2, ended_at=home.now), output=3, errors=2)

    async def end(batches: BatchService, files: FileService) -> None:
        batches.look(home.processes.move(1, State.EXITED))

    if is_seen:
        home(end)
    else:
        home.processes.move(1, State.EXITED)

    async def settle(batches: BatchService, files: FileService) -> None:
        pass  # its start and its end do it

    home(settle)

    async def look(batches: BatchService, files: FileService) -> None:
        found = batches.get(batch.id)
        assert found.state == BatchState(status, 5, 3, 2, ended_at=home.now)
        assert (found.has_output, found.has_errors) == (True, True)
        output, errors = (files.path(f"file-{one}").read_text() for one in (found.output, found.errors))
        assert (output.count("\n"), errors.count("\n")) == (3, 2)
        assert files.get(f"file-{found.output}").purpose == "batch_output"
        assert not (home.folder / "batches" / batch.id).exists()
        with pytest.raises(Conflict):
            await batches.cancel(batch.id)

    home(look)


def test_a_cancelled_batch_keeps_what_was_answered(home: Home):
    batch: Batch = home(begin)
    home.write(batch, BatchState(BatchStatus.IN_PROGRESS, 9, 4), output=4)

    async def cancel(batches: BatchService, files: FileService) -> None:
        cancelled = await batches.cancel(batch.id)
        assert (await batches.state(cancelled)).status is BatchStatus.CANCELLING
        assert home.processes.killed == [1]
        assert (await batches.cancel(batch.id)).cancelling_at == cancelled.cancelling_at
        batches.look(home.processes.move(1, State.INTERRUPTED))

    home(cancel)
    assert home.processes.killed == [1, 1, 1]  # an interrupted process is given up too

    async def end(batches: BatchService, files: FileService) -> None:
        batches.look(home.processes.move(1, State.EXITED))

    home(end)

    async def look(batches: BatchService, files: FileService) -> None:
        found = batches.get(batch.id)
        assert found.state is not None
        assert (found.state.status, found.state.completed, found.has_output, found.has_errors) == (
            BatchStatus.CANCELLED,
            4,
            True,
            False,
        )

    home(look)


def test_an_interrupted_process_is_not_the_end_unless_its_work_is_done(home: Home):
    batch: Batch = home(begin)

    async def interrupt(batches: BatchService, files: FileService) -> None:
        batches.look(home.processes.move(1, State.INTERRUPTED))

    home.write(batch, BatchState(BatchStatus.IN_PROGRESS, 9, 4), output=4)
    home(interrupt)
    assert home.processes.killed == []
    home.write(batch, BatchState(BatchStatus.COMPLETED, 4, 4), output=4)
    home(interrupt)
    assert set(home.processes.killed) == {1}


def test_a_process_that_fails_for_good_fails_the_batch_with_its_words(home: Home):
    batch: Batch = home(begin)

    async def end(batches: BatchService, files: FileService) -> None:
        batches.look(home.processes.move(1, State.EXITED, fault=Fault("bad_input", "the file is gone")))

    home(end)

    async def look(batches: BatchService, files: FileService) -> None:
        state = await batches.state(batches.get(batch.id))
        assert (state.status, state.faults[0].message) == (BatchStatus.FAILED, "the file is gone")

    home(look)


def test_a_batch_whose_process_was_refused_leaves_nothing(home: Home):
    home.processes.error = BadInput("no")

    async def refuse(batches: BatchService, files: FileService) -> None:
        with pytest.raises(BadInput):
            await begin(batches, files)
        assert batches.all() == []

    home(refuse)
    assert list((home.folder / "batches").iterdir()) == []


def test_a_record_without_a_process_is_a_crash_before_anyone_was_told(home: Home):
    batch: Batch = home(begin)
    path = home.folder / "batches" / f"{batch.id}.json"
    path.write_bytes(to_json(replace(batch, pid=None)))

    async def look(batches: BatchService, files: FileService) -> list[Batch]:
        return batches.all()

    assert home(look) == [batch]  # its process is there: the crash was between the two
    path.write_bytes(to_json(replace(batch, pid=None)))
    home.processes.table.clear()
    assert home(look) == []


def test_the_lines_so_far_are_those_of_a_batch_that_has_not_ended(home: Home):
    batch: Batch = home(begin)

    async def look(batches: BatchService, files: FileService) -> None:
        path = batches.lines_so_far(f"file-{batch.output}")
        assert path is not None
        assert (path.name, path.parent.name) == (OUTPUT, batch.id)
        assert batches.lines_so_far(batch.input_file_id) is None
        with pytest.raises(UploadNotFound):
            await batches.create("file-0", ROUTE, "24h", {})
        with fails_with(BadInput, key="input_file_id"):
            await begin(batches, files, purpose="fine-tune")
        with pytest.raises(NotFound):
            batches.get("batch_0")

    home(look)


@pytest.mark.parametrize(("text", "seconds"), [("24h", 86_400), ("90m", 5_400), ("30d", 2_592_000), ("5s", 5)])
def test_a_window_is_a_number_and_a_unit(text: str, seconds: int):
    assert window_s(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "0h", "31d", "1w", "-1h", "١h", "1.5h"])
def test_a_window_that_is_none_is_refused(text: str):
    with fails_with(BadInput, key="completion_window"):
        window_s(text)


def test_a_batch_that_is_cancelled_before_its_process_is_known_is_ended(home: Home):
    async def act(batches: BatchService, files: FileService) -> None:
        async def cancel() -> None:
            (listed,) = batches.all()
            await batches.cancel(listed.id)

        home.processes.before = cancel
        batch = await begin(batches, files)
        assert batch.cancelling_at is not None
        assert home.processes.killed == [batch.pid]

    home(act)
