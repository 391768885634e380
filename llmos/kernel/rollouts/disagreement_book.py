"""Keeps the texts on which two versions disagree, where text may be kept: they are rows that `label` asks about.

A thread writes them, many in one transaction, `GATHER_S` after the first of them came. No call waits for it, and none
fails because of it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from llmos.abi import disagreement_file
from llmos.abi.call import CallRequest
from llmos.abi.disagreement import MOST_CHARACTERS, Disagreement, DisagreementState
from llmos.abi.feedback import answer_in, texts_of
from llmos.abi.json_type import Json
from llmos.abi.process import Process, Program, State, of_program
from llmos.abi.rollout import Rollout
from llmos.abi.rollout_guard import GuardMeasure
from llmos.abi.task import Family, spec_of
from llmos.kernel.requests.erased_users import ErasedUsers
from llmos.kernel.rollouts.comparison import disagreeing
from llmos.kernel.rollouts.kept_results import FOLDER as RESULTS
from llmos.kernel.rollouts.kept_results import drop_texts

GATHER_S = 0.5  # that rows wait for others before they are written
MOST_WAITING = 1_000  # rows that are not written yet; more are dropped and counted
MOST_WAITING_BYTES = 8 << 20  # of texts that are not on the disk yet; more are dropped and counted too
KEPT_FAMILIES = (Family.LABELS,)  # whose rows people label as whole texts
SAY_EVERY_S = 60.0
CHOOSES = Program("queue-data")  # the program that chooses rows to label
DAYS = 90
DAY_S = 86_400.0
NONE: tuple[int, set[str]] = (0, set())  # deleted, kept
SETTING = "rollout_texts"
STORE, LONG, LOST, TASK, ERASED = "store: false", "too long", "not written", "task", "user erased"
log = logging.getLogger(__name__)
T = TypeVar("T")


class DisagreementBook:
    """Rows by model name. `is_on` is the setting `rollout_texts`: without it nothing is kept."""

    def __init__(
        self,
        home: Path,
        is_on: bool,
        text_id: Callable[[str], str],
        clock: Callable[[], float],
        gather_s: float = GATHER_S,
        most_waiting_bytes: int = MOST_WAITING_BYTES,
        days: int = DAYS,
    ) -> None:
        """`days` is how long a row is kept."""
        self._results = home / RESULTS
        self._days = days
        self.path = home / disagreement_file.FILE
        self._is_on = is_on
        self._text_id = text_id
        self._clock = clock
        self._gather_s = gather_s
        self._erased = ErasedUsers()
        self._waiting: list[Disagreement] = []
        self._most_waiting_bytes = most_waiting_bytes
        self._waiting_bytes = 0  # of rows that are being written too
        self._writing: asyncio.Task[None] | None = None
        self._checking: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()  # one writes at a time, and whoever comes first goes first
        self._counts: dict[str, int] = {}
        self._left_out: dict[str, Counter[str]] = {}  # by rollout
        self._said_at = -SAY_EVERY_S

    async def open(self) -> None:
        """Count what is there. A file that cannot be read counts as empty: no daemon needs it to start."""
        try:
            self._counts = await asyncio.to_thread(self._read, disagreement_file.counts_of, {})
        except (sqlite3.Error, OSError) as error:
            self._counts = {}
            log.error("the texts on which versions disagreed cannot be read (%s): %s", self.path, error)

    def note(
        self, rollout: Rollout, request: CallRequest, other: str, ours: Sequence[Json], others: Sequence[Json]
    ) -> None:
        """Both versions have answered a call: keep the texts on which they disagree, where that is allowed."""
        if not self._is_on or request.task is None or len(ours) != len(others):
            return
        places = disagreeing(request.task, ours, others)
        if not places:
            return
        left_out = self._left_out.setdefault(rollout.id, Counter())
        if spec_of(request.task).family not in KEPT_FAMILIES:
            left_out[TASK] += len(places)
        elif request.origin is None or not request.origin.may_keep:
            left_out[STORE] += len(places)
        elif self._erased.has(request.origin):
            left_out[ERASED] += len(places)
        else:
            for at in places:
                self._put(self._row(rollout, request, other, at, ours[at], others[at]), left_out)

    def state(self, rollout: Rollout) -> DisagreementState:
        """What this rollout has seen, and what is kept of its name."""
        tally = rollout.tallies.get(str(GuardMeasure.AGREEMENT))
        pairs, differing = (0, 0.0) if tally is None else (tally.count, tally.count - tally.total)
        kept, left_out = self._counts.get(rollout.name, 0), dict(self._left_out.get(rollout.id, {}))
        return DisagreementState(
            pairs, differing, kept, self._is_on, left_out, _sentence(rollout, kept, left_out, is_on=self._is_on)
        )

    async def find(self, model: str, user: str, limit: int) -> list[Disagreement]:
        """The newest rows of a model, and of a user where one is named."""
        await asyncio.shield(self._flush())
        return await asyncio.to_thread(self._read, lambda it: disagreement_file.newest(it, model, user, limit), [])

    async def erase(self, user: str) -> int:
        """Delete the rows of a user's calls; returns how many. Raises where the file cannot be written.

        A call of before that is compared later leaves no row either.
        """
        self._erased.add(user, self._clock())
        return await asyncio.shield(self._erase(user))

    async def sweep(self, models: Collection[str]) -> None:
        """Delete the rows whose time is over, and those of other names than these. Raises as `erase`."""
        if self._waiting or self.path.exists():
            await asyncio.shield(self._drop(lambda it: self._sweep(it, models)))

    async def forget(self, model: str) -> None:
        """A name is gone with its last version: so are its rows. A failure is logged; the next sweep tries again."""
        try:
            if self._counts.get(model) or self._waiting:
                await asyncio.shield(self._drop(lambda it: disagreement_file.drop_models(it, [model])))
        except (sqlite3.Error, OSError) as error:
            log.error("texts on which versions of %s disagreed are not deleted yet: %s", model, error)

    def look(self, process: Process) -> None:
        """A process has changed: the result of one that chose rows to label has no text that was erased meanwhile."""
        if process.state is State.EXITED and of_program((process,), CHOOSES) and self.path.exists():
            task = asyncio.get_running_loop().create_task(self._check_result(process.pid))
            self._checking.add(task)
            task.add_done_callback(self._checking.discard)

    async def close(self) -> None:
        """Write what waits."""
        async with self._lock:
            if self._writing is not None:
                self._writing.cancel()  # it gathers, or waits for the lock
            await self._write()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.gather(*self._checking)

    def _row(
        self, rollout: Rollout, request: CallRequest, other: str, at: int, ours: Json, theirs: Json
    ) -> Disagreement:
        text, origin = texts_of(request.inputs[at]), request.origin
        assert origin is not None
        answers = {request.model: answer_in(ours, "label"), other: answer_in(theirs, "label")}
        return Disagreement(
            0,
            self._clock(),
            rollout.name,
            str(request.task),
            self._text_id(text),
            text,
            answers,
            rollout.id,
            str(rollout.plan.mode),
            origin.call,
            at,
            origin.user,
            origin.key,
        )

    def _put(self, row: Disagreement, left_out: Counter[str]) -> None:
        if len(row.text) > MOST_CHARACTERS:
            left_out[LONG] += 1
        elif (
            len(self._waiting) >= MOST_WAITING
            or self._waiting_bytes + (size := _size_of(row)) > self._most_waiting_bytes
        ):
            left_out[LOST] += 1
        else:
            self._waiting.append(row)
            self._waiting_bytes += size
            if self._writing is None or self._writing.done():
                self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def _write_later(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._gather_s)
            await self._flush()

    async def _flush(self) -> None:
        """Until what waits now is on the disk. Who leaves before must not end it, for a thread writes on."""
        async with self._lock:
            await self._write()

    async def _erase(self, user: str) -> int:
        return await self._drop(lambda it: disagreement_file.erase_user(it, user))

    async def _drop(self, work: Callable[[sqlite3.Connection], int]) -> int:
        """Delete rows, and texts that are in none any more from the results of processes; returns how many rows."""
        async with self._lock:
            await self._write()
            gone, kept = await asyncio.to_thread(
                self._read, lambda it: (work(it), disagreement_file.text_ids(it)), NONE
            )
            await asyncio.to_thread(drop_texts, self._results, kept)
            await self.open()
        return gone

    async def _check_result(self, pid: int) -> None:
        try:
            async with self._lock:
                kept = await asyncio.to_thread(self._read, disagreement_file.text_ids, set())
                await asyncio.to_thread(drop_texts, self._results, kept, pid)
        except (sqlite3.Error, OSError) as error:
            log.error("the result of process %d may keep texts that are erased: %s", pid, error)

    def _sweep(self, database: sqlite3.Connection, models: Collection[str]) -> int:
        gone = disagreement_file.drop_before(database, self._clock() - self._days * DAY_S)
        others = disagreement_file.counts_of(database).keys() - set(models)
        return gone + disagreement_file.drop_models(database, sorted(others))

    async def _write(self) -> None:
        """Write what waits now; rows that come meanwhile are for the next time. The caller holds the lock."""
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        try:
            self._counts |= await asyncio.to_thread(self._add, rows)
        except (sqlite3.Error, OSError) as error:
            for row in rows:
                self._left_out.setdefault(row.rollout, Counter())[LOST] += 1
            if time.monotonic() - self._said_at >= SAY_EVERY_S:
                self._said_at = time.monotonic()
                log.error("%d texts on which versions disagree were not written: %s", len(rows), error)
        finally:
            self._waiting_bytes -= sum(map(_size_of, rows))

    def _add(self, rows: list[Disagreement]) -> dict[str, int]:
        """The counts of the models that have more now."""
        with disagreement_file.open_disagreements(self.path) as database:
            disagreement_file.add_rows(database, rows)
            return {model: disagreement_file.count_of(database, model) for model in {row.model for row in rows}}

    def _read(self, work: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        if not self.path.exists():
            return nothing
        with disagreement_file.open_disagreements(self.path) as database:
            return work(database)


def _size_of(row: Disagreement) -> int:
    """The bytes of its text and answers."""
    return len(row.text.encode("utf-8", "surrogatepass")) + len(msgspec.json.encode(row.answers))


def _sentence(rollout: Rollout, kept: int, left_out: dict[str, int], *, is_on: bool) -> str:
    """What is kept and where it is asked about, or why nothing is."""
    name = rollout.name
    how = f"llmos label DATASET --disagreements {name}"
    waiting = f"{kept:,} texts on which versions of {name} disagreed are kept to be labelled: {how}"
    if not is_on:
        off = f"No text is kept on which the versions disagree, for the setting {SETTING} is off"
        return f"{off}. {waiting}" if kept else off
    said = waiting if kept else "No text is kept on which the versions disagree"
    missing = ", ".join(f"{count:,} ({why})" for why, count in left_out.items())
    return f"{said}. Not kept: {missing}" if missing else said
