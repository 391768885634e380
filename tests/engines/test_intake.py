"""Where calls are taken in beside the engine's work: one that was taken back frees its lane."""

from __future__ import annotations

import threading

from llmos.abi.call import Call
from llmos.abi.error import Cancelled
from llmos.abi.note import Note
from llmos.abi.process import Priority
from llmos.abi.waiting import is_for_nobody
from llmos.engines.intake import CallIntake, Intake


def compiling(begun: threading.Event) -> Intake:
    """A rule that is compiled until whoever sent it has left."""
    yield
    begun.set()
    while not is_for_nobody():
        pass
    raise Cancelled("They have left")


def quick() -> Intake:
    yield
    return lambda: None


def ruled(number: int) -> Call:
    return Call(number, "mood:1", "chat", ("x",), {"regex": "(a{9}){9}"})


def test_a_caller_that_left_frees_the_lane_for_the_next_who_sent_a_rule():
    awake, is_begun = threading.Semaphore(0), threading.Event()
    note = Note()
    taking = CallIntake(note, awake.release)
    taking.put(ruled(1), compiling(is_begun))
    assert is_begun.wait(20)
    taking.put(ruled(2), quick())
    assert taking.collect() == []
    taking.cancel(1)
    found: list[tuple[Call, object]] = []
    while not found:
        assert awake.acquire(timeout=20)
        found += taking.collect()
    assert [call.call_id for call, _ in found] == [2]
    assert taking.is_idle
    note.close()


def read(name: str, steps: int, said: list[str], begin: threading.Event) -> Intake:
    """A text of so many parts, once the first may be read."""
    yield
    begin.wait(20)
    for _ in range(steps):
        said.append(name)
        yield
    return lambda: None


def test_a_large_call_does_not_wait_until_another_of_its_class_is_tokenized():
    awake, begin, said = threading.Semaphore(0), threading.Event(), list[str]()
    note = Note()
    taking = CallIntake(note, awake.release)
    taking.put(Call(1, "mood:1", "embed", ("x",) * 100), read("long", 50, said, begin))
    taking.put(Call(2, "mood:1", "embed", ("x",) * 100, priority=Priority.BACKGROUND), read("low", 1, said, begin))
    taking.put(Call(3, "mood:1", "embed", ("x",) * 100), read("short", 2, said, begin))
    begin.set()
    found: list[int] = []
    while len(found) < 3:
        assert awake.acquire(timeout=20)
        found += [call.call_id for call, _ in taking.collect()]
    assert found == [3, 1, 2], "and one of a lower class waits for both"
    assert said[:4] == ["long", "short", "long", "short"]
    note.close()
