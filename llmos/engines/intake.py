"""Intake: takes calls in step by step (lookup, checks, tokenizing, grammar), so that long inputs do not block others.

Small calls are taken in at once. A thread takes in large ones, another one those whose rules are to be compiled. The
higher class goes first; calls of one class take a step each by turns, so that none waits until all the text of another
one has been read.
"""

from __future__ import annotations

import heapq
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count

from llmos.abi.call import Call, characters, size_of
from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.note import Note
from llmos.abi.process import Priority
from llmos.abi.waiting import waited_for
from llmos.tasks import Rendered, Settings, Task, Tokenizer
from llmos.tasks.grammar import PARAMS as RULES
from llmos.tasks.inputs import reading, render_inputs

PutCall = Callable[[], None]  # puts a call in hand, once it has been taken in
Intake = Generator[None, None, PutCall]

PART_INPUTS = 64  # of a step, or fewer inputs with this many characters
PART_CHARS = 1 << 16
SMALL_INPUTS = 32  # a call of no more, with no more text, is taken in at once: that takes milliseconds
SMALL_CHARS = 1 << 14
RANK = {priority: rank for rank, priority in enumerate(Priority)}


def render_in_steps(
    task: Task, call: Call, tokenizer: Tokenizer, settings: Settings
) -> Generator[None, None, list[Rendered]]:
    """A call's inputs as tokens, a part of them in each step; BadInput where it has none, or one that cannot be."""
    if not call.inputs:
        raise BadInput("The call has no inputs. Send at least one", reason="no_inputs")
    yield
    tokenizer = reading(tokenizer, call.params)
    made: list[Rendered] = []
    for some in parts(call.inputs):
        made += render_inputs(task, some, tokenizer, settings, first=len(made))
        yield
    return made


def parts(inputs: Sequence[Json]) -> Iterator[Sequence[Json]]:
    """Split the inputs into one part per step; a single input is never split."""
    start = chars = 0
    for end, one in enumerate(inputs, 1):
        chars += characters(one)
        if chars >= PART_CHARS or end - start >= PART_INPUTS or end == len(inputs):
            yield inputs[start:end]
            start, chars = end, 0


def whole(intake: Intake) -> PutCall:
    """Run all steps at once; raises what a step raises."""
    while True:
        try:
            next(intake)
        except StopIteration as done:
            put: PutCall = done.value
            return put


class Lane(IntEnum):
    """Who takes a call in; also its slot of the note."""

    AT_ONCE = 0
    LARGE = 1
    RULED = 2


@dataclass(slots=True, order=True)
class IntakeEntry:
    """A call that is being taken in."""

    call: Call = field(compare=False)
    steps: Intake = field(compare=False)
    place: tuple[int, int] = (0, 0)
    is_gone: bool = field(default=False, compare=False)


class CallIntake:
    """All calls that are being taken in. `wake` is called, from another thread, when there is something to collect."""

    def __init__(self, note: Note, wake: Callable[[], None]) -> None:
        self._note = note
        self._wake = wake
        self._threads: dict[Lane, Thread] = {}
        self._entries: dict[int, IntakeEntry] = {}
        self._done: queue.SimpleQueue[tuple[IntakeEntry, PutCall | Exception]] = queue.SimpleQueue()

    @property
    def is_idle(self) -> bool:
        return not self._entries

    def put(self, call: Call, steps: Intake) -> bool:
        """Take a call in, at once or beside: whether it is in. Raises what is wrong with it if that is known."""
        lane = lane_of(call)
        self._note.write(Lane.AT_ONCE, call.call_id)
        try:
            next(steps)
            if lane is Lane.AT_ONCE:
                whole(steps)()
                return True
        finally:
            self._note.write(Lane.AT_ONCE, None)
        if lane not in self._threads:
            self._threads[lane] = Thread(lane, self._note, self._finish)
        entry = IntakeEntry(call, steps)
        self._entries[call.call_id] = entry
        self._threads[lane].put(entry)
        return False

    def cancel(self, call_id: int) -> None:
        """Nobody waits for it: it is not taken in any further."""
        entry = self._entries.pop(call_id, None)
        if entry is not None:
            entry.is_gone = True

    def collect(self) -> list[tuple[Call, PutCall | Exception]]:
        """The calls that have been taken in since the last time, each with what puts it in hand, or what is wrong."""
        found: list[tuple[Call, PutCall | Exception]] = []
        while True:
            try:
                entry, outcome = self._done.get_nowait()
            except queue.Empty:
                return found
            if self._entries.pop(entry.call.call_id, None) is not None:
                found.append((entry.call, outcome))

    def _finish(self, entry: IntakeEntry, outcome: PutCall | Exception) -> None:
        self._done.put((entry, outcome))
        self._wake()


class Thread:
    """One thread that takes calls in, a step of the most urgent one at a time."""

    def __init__(self, lane: Lane, note: Note, finish: Callable[[IntakeEntry, PutCall | Exception], None]) -> None:
        self._lane = lane
        self._note = note
        self._finish = finish
        self._heap: list[IntakeEntry] = []
        self._turns = count()
        self._has_work = threading.Condition()
        threading.Thread(target=self._run, name=f"intake-{lane.name.lower()}", daemon=True).start()

    def put(self, entry: IntakeEntry) -> None:
        """Its next step is taken after one of each other call of its class."""
        with self._has_work:
            entry.place = (RANK[entry.call.priority], next(self._turns))
            heapq.heappush(self._heap, entry)
            self._has_work.notify()

    def _run(self) -> None:
        while True:
            self._turn()

    def _turn(self) -> None:
        """A function of its own: whoever waits here for the next call must not hold the last one, and all its text."""
        with self._has_work:
            while not self._heap:
                self._has_work.wait()
            entry = heapq.heappop(self._heap)
        if not entry.is_gone and self._step(entry):
            self.put(entry)

    def _step(self, entry: IntakeEntry) -> bool:
        """The next step of one call; whether there are more."""
        self._note.write(self._lane, entry.call.call_id)
        try:
            with waited_for(lambda: entry.is_gone):
                next(entry.steps)
            return True
        except StopIteration as done:
            outcome: PutCall | Exception = done.value
        except Exception as error:  # noqa: BLE001  # one call's fault is that call's answer
            outcome = error.with_traceback(None)  # which would hold this frame, and with it the call, in a circle
        finally:
            self._note.write(self._lane, None)
        self._finish(entry, outcome)
        return False


def lane_of(call: Call) -> Lane:
    """By what it asks for, without looking at what it says."""
    has_tools = any(isinstance(one, dict) and one.get("tools") for one in call.inputs)
    if has_tools or any(call.params.get(key) is not None for key in RULES):
        return Lane.RULED
    if size_of(call) > SMALL_INPUTS or characters(call.inputs) + characters(call.params) > SMALL_CHARS:
        return Lane.LARGE
    return Lane.AT_ONCE
