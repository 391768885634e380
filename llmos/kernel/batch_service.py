"""Batches for the API: created and cancelled here, worked on by a process each, kept with their files when it ends.

The record of a batch is durable before its process is queued. Its end follows from the process and what that has
written, so that a crash at any point is made up for at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from llmos.abi.batch import ENDED, ERRORS, OUTPUT, STATE, Batch, BatchState, BatchStatus, LineFault, window_s
from llmos.abi.error import BadInput, Conflict, LlmosError, NotFound
from llmos.abi.json_type import Json
from llmos.abi.process import Process, Program, Spec, State
from llmos.abi.upload import FILE_PREFIX, is_upload
from llmos.abi.wire import from_json
from llmos.kernel.calls.route_calls import KEY
from llmos.kernel.file_service import FileService, upload_of
from llmos.kernel.interface import ProcessesInterface
from llmos.kernel.programs.batch import PROGRAM as BATCH
from llmos.kernel.store.records import Records

MOST_BATCHES = 2_000  # kept; the oldest that have ended make room
INPUT_PURPOSE, OUTPUT_PURPOSE = "batch", "batch_output"
log = logging.getLogger(__name__)


class BatchService:
    """All batches of a home. Call `start` before anything else."""

    def __init__(
        self,
        folder: Path,
        files: FileService,
        processes: Callable[[], ProcessesInterface],
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._files = files
        self._processes = processes
        self._clock = clock
        self._records: Records[Batch] = Records(folder, Batch)
        self.by_pid: dict[int, str] = {}  # whose processes are to be looked at
        self._changing = asyncio.Lock()  # one record is changed at a time
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read the records, and make up for what happened while nobody looked."""
        await asyncio.to_thread(self._records.read)
        known = {str(one.spec.args.get("batch")): one for one in self._processes().all() if BATCH.runs(one)}
        for batch in list(self._records.known.values()):
            if batch.state is not None:
                continue
            process = known.get(batch.id)
            if batch.pid is None and process is None:  # nobody was told of it
                await asyncio.to_thread(self._forget, batch)
                continue
            if batch.pid is None and process is not None:
                batch = await self._put(replace(batch, pid=process.pid))
            self.by_pid[batch.pid or 0] = batch.id
            if process is None:
                self._settle_soon(batch.id, None)
            else:
                self.look(process)

    def all(self) -> list[Batch]:
        """Every batch, the oldest first."""
        return sorted(self._records.known.values(), key=lambda one: (one.created_at, one.id))

    def get(self, name: str) -> Batch:
        """The batch of this id; NotFound otherwise."""
        if name not in self._records.known:
            raise NotFound(f"No batch {name[:80]!r}. All: GET /v1/batches", batch=name[:80])
        return self._records.known[name]

    async def state(self, batch: Batch) -> BatchState:
        """How far it is now."""
        if batch.state is not None:
            return batch.state
        state = await asyncio.to_thread(self._read_state, batch.id)
        return state if batch.cancelling_at is None else replace(state, status=BatchStatus.CANCELLING)

    async def create(
        self, input_file_id: str, endpoint: str, window: str, metadata: Mapping[str, Json], key: str = ""
    ) -> Batch:
        """Queue the requests of a file, with the rights of this key; it is durable when this returns."""
        seconds = window_s(window)
        if is_upload(input_file_id):
            input_file_id = (await self._files.keep_upload(input_file_id, INPUT_PURPOSE)).file_id
        found = self._files.get(input_file_id)
        if found.purpose != INPUT_PURPOSE:
            raise BadInput(
                f"{input_file_id} has the purpose {found.purpose}; requests come in a file with the purpose batch",
                key="input_file_id",
            )
        now = self._clock()
        name, output, errors = (secrets.token_hex(8) for _ in range(3))
        batch = Batch(
            f"batch_{name}",
            input_file_id,
            endpoint,
            window,
            now,
            now + seconds,
            output,
            errors,
            dict(metadata),
            key=key,
        )
        await self._make_room()
        await self._put(batch)
        args: dict[str, Json] = {
            "batch": batch.id,
            "input": upload_of(input_file_id),
            "endpoint": endpoint,
            "expires_at": batch.expires_at,
            KEY: key,
        }
        try:
            await asyncio.to_thread((self._folder / batch.id).mkdir)
            process = await self._processes().submit(Spec(Program("batch"), args))
        except BaseException:
            await asyncio.to_thread(self._forget, batch)
            raise
        self.by_pid[process.pid] = batch.id
        async with self._changing:
            made = await self._put(replace(self.get(batch.id), pid=process.pid))
        if made.cancelling_at is not None:  # cancelled before its process was known here
            await self._kill(process.pid)
        self.look(self._processes().get(process.pid))  # it may have ended before it was known here
        return made

    async def cancel(self, name: str) -> Batch:
        """End it; what was answered stays. Conflict if it has ended."""
        async with self._changing:
            batch = self.get(name)
            if batch.state is not None:
                raise Conflict(f"{name} is {batch.state.status}: there is nothing to cancel", batch=name)
            if batch.cancelling_at is None:
                batch = await self._put(replace(batch, cancelling_at=self._clock()))
        if batch.pid is not None:
            await self._kill(batch.pid)
        return self.get(name)

    async def _kill(self, pid: int) -> None:
        with suppress(LlmosError):  # it has just ended, and is settled
            await self._processes().kill(pid)

    def lines_so_far(self, file_id: str) -> Path | None:
        """The file of a batch that has not ended, as far as it is written; None if no batch has this file."""
        for batch in self._records.known.values():
            if batch.state is None:
                for upload, file in ((batch.output, OUTPUT), (batch.errors, ERRORS)):
                    if file_id == f"{FILE_PREFIX}{upload}":
                        return self._folder / batch.id / file
        return None

    def look(self, process: Process) -> None:
        """Note the end of a batch's process; called for each change of any process."""
        name = self.by_pid.get(process.pid)
        if name is not None and process.is_ended:
            self._settle_soon(name, process)

    async def close(self) -> None:
        """Wait for what is being settled."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # The end of a batch.

    def _settle_soon(self, name: str, process: Process | None) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(name, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, name: str, process: Process | None) -> None:
        try:
            async with self._changing:
                batch = self.get(name)
                state = await asyncio.to_thread(self._read_state, name)
                is_over = batch.cancelling_at is not None or state.status in ENDED
                if process is not None and process.state is State.INTERRUPTED:
                    if is_over and batch.state is None:
                        await self._processes().kill(process.pid)  # its exit follows
                    return
                if batch.state is None:
                    await self._end(batch, end_of(batch, state, process, self._clock()))
        except LlmosError as error:
            log.warning("%s is not settled: %s", name, error.message)  # the next start does it
        except Exception:  # the top of a work beside the loop
            log.exception("%s is not settled", name)

    async def _end(self, batch: Batch, state: BatchState) -> None:
        """Keep its files, then the record of its end."""
        found = {}
        for id, file in ((batch.output, OUTPUT), (batch.errors, ERRORS)):
            path = self._folder / batch.id / file
            found[file] = path.exists() and path.stat().st_size > 0
            if found[file]:
                await self._files.adopt(path, f"{batch.id}_{file}", OUTPUT_PURPOSE, id)
        await self._put(replace(batch, state=state, has_output=found[OUTPUT], has_errors=found[ERRORS]))
        await asyncio.to_thread(shutil.rmtree, self._folder / batch.id, ignore_errors=True)
        self.by_pid.pop(batch.pid or 0, None)

    # Records.

    async def _put(self, batch: Batch) -> Batch:
        await asyncio.to_thread(self._records.put, batch.id, batch)
        return batch

    def _forget(self, batch: Batch) -> None:
        self._records.remove(batch.id)
        shutil.rmtree(self._folder / batch.id, ignore_errors=True)

    async def _make_room(self) -> None:
        """Forget the oldest that have ended, if there are too many; Conflict if none has."""
        surplus = len(self._records.known) + 1 - MOST_BATCHES
        if surplus <= 0:
            return
        over = [one for one in self.all() if one.state is not None][:surplus]
        if len(over) < surplus:
            raise Conflict(f"{MOST_BATCHES:,} batches have not ended. Wait for some", limit=MOST_BATCHES)
        for batch in over:
            await asyncio.to_thread(self._records.remove, batch.id)

    def _read_state(self, name: str) -> BatchState:
        try:
            return from_json((self._folder / name / STATE).read_bytes(), BatchState)
        except FileNotFoundError:  # it has not begun
            return BatchState()
        except (OSError, LlmosError):  # one batch that cannot be read must not hide the others
            log.exception("the state of batch %s", name)
            return BatchState()


def end_of(batch: Batch, state: BatchState, process: Process | None, now: float) -> BatchState:
    """How a batch has ended whose process has exited."""
    if state.status in ENDED:
        return state
    if batch.cancelling_at is not None or (process is not None and process.fault is None):
        return replace(state, status=BatchStatus.CANCELLED, ended_at=now)
    said = "its process is not known any more" if process is None or process.fault is None else process.fault.message
    return replace(
        state, status=BatchStatus.FAILED, faults=(*state.faults, LineFault("process_failed", said)), ended_at=now
    )
