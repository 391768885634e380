"""The serve program over a real socket, with the null engine: what comes in is answered, and nothing else ends it."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from llmos.abi.call import Call, Chunk, Operation
from llmos.abi.frame import (
    Ask,
    Attach,
    Attached,
    Cancel,
    Chunks,
    Computed,
    Detach,
    Detached,
    FromChild,
    Job,
    ModelPath,
    Ready,
    Report,
    Stop,
    TakenIn,
    TakesIn,
    ToChild,
    UsageReport,
)
from llmos.abi.model import Kind, Manifest
from llmos.abi.note import Note, open_note, read
from llmos.abi.process import Priority
from llmos.abi.wire import Splitter, encode
from llmos.engines.intake import Intake
from llmos.programs import serve
from llmos.programs.channel import Channel
from llmos.programs.serve import MUCH_CHARS

BASE = ModelPath(Manifest("tiny", 1, Kind.BASE, "embed", ()), "/nowhere")
MOOD = ModelPath(
    Manifest("mood", 1, Kind.MODEL, "classify", (), base="tiny:1", labels=("no", "yes")), "/nowhere", base=BASE
)


class Daemon:
    """The daemon's end of the socket, and the program running at the other."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(20.0)
        self._splitter = Splitter()
        self._frames: list[FromChild] = []
        assignment = Job(1, "serve", {"engine": "null", "token_budget": 64}, "/nowhere", models={"base": BASE})
        self.gone = threading.Event()
        channel = Channel(theirs, on_gone=self.gone.set)
        self._theirs = theirs
        self.program = threading.Thread(target=serve.main, args=(channel, assignment))
        self.program.start()

    def say(self, *frames: ToChild) -> None:
        self._socket.sendall(b"".join(encode(frame) for frame in frames))

    def hear(self) -> FromChild:
        """The next frame that is not about usage."""
        while True:
            while not self._frames:
                self._frames += self._splitter.feed(self._socket.recv(1 << 16))
            frame = self._frames.pop(0)
            if not isinstance(frame, UsageReport):
                return frame

    def chunks(self, count: int) -> dict[int, Chunk]:
        found: dict[int, Chunk] = {}
        while len(found) < count:
            frame = self.hear()
            if isinstance(frame, Attached | Detached):
                continue
            assert isinstance(frame, Chunks)
            found |= {chunk.call_id: chunk for chunk in frame.chunks}
        return found

    def close(self) -> None:
        self.say(Stop())
        self.program.join(20.0)
        assert not self.program.is_alive()
        self._socket.close()
        assert self.gone.wait(20.0)
        self._theirs.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    one = Daemon()
    assert isinstance(one.hear(), TakesIn)
    assert one.hear() == Ready(0)
    yield one
    one.close()


def call(number: int, model: str = "mood:1", text: object = "hello") -> Ask:
    return Ask(Call(number, model, "classify", (text,)))


def test_what_waits_is_answered_each_call_once(daemon):
    daemon.say(Attach(MOOD), *(call(number) for number in range(50)))
    answers = daemon.chunks(50)
    assert sorted(answers) == list(range(50))
    assert len({str(chunk.outputs) for chunk in answers.values()}) == 1


def alive(number: int) -> bool:
    """Something holds this call, and so its text."""
    return any(type(one) is Call and one.call_id == number for one in gc.get_objects())


@pytest.mark.parametrize("model", ["mood:1", "nobody:1"])
@pytest.mark.parametrize("chars", [20_000, 2 * MUCH_CHARS])
def test_a_large_call_that_was_answered_or_refused_is_held_by_nobody(daemon, model, chars):
    daemon.say(Attach(MOOD), call(77, model, "x " * (chars // 2)))
    assert list(daemon.chunks(1)) == [77]
    daemon.say(call(78))  # once this is answered, the step that took the first has long come to its end
    assert list(daemon.chunks(1)) == [78]
    assert not alive(77)


def test_a_bad_call_gets_its_fault_and_its_neighbours_their_answers(daemon):
    daemon.say(Attach(MOOD), call(1), call(2, text=7), call(3, model="nobody:1"))
    answers = daemon.chunks(3)
    assert answers[1].fault is None
    assert [answers[number].fault.code for number in (2, 3)] == ["bad_input", "model_not_found"]


def test_the_tokenizer_answers_alone_and_its_faults_are_answers_too(daemon):
    read, write = (
        Call(i, "mood:1", "classify", ("a b",), operation=one)
        for i, one in enumerate((Operation.TOKENIZE, Operation.DETOKENIZE), 1)
    )
    unknown = Call(3, "nobody:1", "classify", ("a b",), operation=Operation.TOKENIZE)
    daemon.say(Attach(MOOD), Ask(read), Ask(write), Ask(unknown), call(4))
    answers = daemon.chunks(4)
    assert [token["text"] for token in answers[1].outputs[0]["tokens"]] == ["a", "b"]
    assert [answers[number].fault.code for number in (2, 3)] == ["bad_input", "model_not_found"]
    assert answers[4].fault is None


def test_a_call_that_asks_for_its_model_alone_is_answered_with_nothing(daemon):
    daemon.say(Attach(MOOD), Ask(Call(1, "mood:1", "classify", (), operation=Operation.LOAD)))
    assert daemon.chunks(1)[1] == Chunk(1)


def test_a_detached_model_is_not_found_any_more(daemon):
    daemon.say(Attach(MOOD), call(1), Detach("mood:1"), call(2))
    assert daemon.chunks(2)[2].fault.code == "model_not_found"


def test_calls_in_hand_are_finished_before_it_stops(daemon):
    daemon.say(Attach(MOOD), *(call(number) for number in range(5)), Stop())
    assert len(daemon.chunks(5)) == 5


class Endless:
    """An engine whose calls go on until they are taken back; it says how many there are."""

    def __init__(self) -> None:
        self.live: set[int] = set()

    def take_in(self, call: Call) -> Intake:
        yield
        return lambda: self.live.add(call.call_id)

    def cancel(self, call_id: int) -> None:
        self.live.discard(call_id)

    def step(self) -> list[Chunk]:
        return []

    @property
    def is_idle(self) -> bool:
        return not self.live

    @property
    def figures(self) -> dict[str, float]:
        return {"live": len(self.live)}

    @property
    def progress(self) -> dict[int, float]:
        return {}


def test_the_last_call_taken_back_is_reported_as_one_less():
    ours, theirs = socket.socketpair()
    engine = Endless()
    note = Note()
    server = serve.ServeLoop(Channel(theirs, on_gone=lambda: None), engine, note)
    ours.sendall(encode(call(1)))
    server.step()
    ours.sendall(encode(Cancel(1)))
    while not engine.is_idle:
        server.step()
    said = Splitter().feed(ours.recv(1 << 16))
    assert [one.progress.figures for one in said if isinstance(one, Report)] == [{"live": 1.0}, {"live": 0.0}]
    ours.close()
    theirs.close()
    note.close()


def test_a_model_that_has_come_says_what_that_took_and_one_that_has_gone_says_so(daemon):
    daemon.say(Attach(MOOD), Detach("mood:1"))
    come, gone = daemon.hear(), daemon.hear()
    assert isinstance(come, Attached)
    assert (come.model, gone) == ("mood:1", Detached("mood:1"))
    assert come.took_s >= 0.0


class Slow(Endless):
    """An engine that takes a large call in for as long as a test likes, and answers all others at once."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.order: list[int] = []

    def take_in(self, call: Call) -> Intake:
        yield
        if len(call.inputs) > 1 or "regex" in call.params:
            self.begun.set()
            assert self.goes_on.wait(20)
            yield
        if "bad" in call.inputs:
            raise ValueError("bad")
        return lambda: self.order.append(call.call_id)

    def step(self) -> list[Chunk]:
        answered, self.order = self.order, []
        return [Chunk(call_id) for call_id in answered]

    @property
    def is_idle(self) -> bool:
        return not self.order


class Talk:
    """A server with this engine, driven by hand."""

    def __init__(self, engine: Any) -> None:  # Any: the part of Engine that it needs
        self.ours, self._theirs = socket.socketpair()
        self.ours.settimeout(20)
        self.note = Note()
        self.server = serve.ServeLoop(Channel(self._theirs, on_gone=lambda: None), engine, self.note)
        self._splitter = Splitter()
        self.heard: list[FromChild] = []

    def say(self, *frames: ToChild) -> None:
        self.ours.sendall(b"".join(encode(frame) for frame in frames))

    def answers(self, count: int) -> list[Chunk]:
        """Step until there are so many."""
        found: list[Chunk] = []
        self.ours.setblocking(False)
        while len(found) < count:
            self.server.step()
            try:
                heard = self._splitter.feed(self.ours.recv(1 << 16))
            except BlockingIOError:
                continue
            found += [chunk for frame in heard if isinstance(frame, Chunks) for chunk in frame.chunks]
        return found

    def close(self) -> None:
        self.ours.close()
        self._theirs.close()
        self.note.close()


@pytest.fixture
def slow() -> Iterator[tuple[Slow, Talk]]:
    engine = Slow()
    talk = Talk(engine)
    yield engine, talk
    engine.goes_on.set()
    talk.close()


def large(number: int, *inputs: str) -> Ask:
    return Ask(Call(number, "mood:1", "classify", inputs or ("x",) * 100))


def test_while_a_large_call_is_taken_in_others_are_answered_and_a_note_names_it(slow):
    engine, talk = slow
    page = open_note(os.getpid(), talk.note.fd)
    talk.say(large(1))
    assert not engine.begun.is_set()
    talk.say(call(2))
    assert [chunk.call_id for chunk in talk.answers(1)] == [2]
    assert engine.begun.wait(20)
    assert read(page) == (1,)
    talk.say(call(3))
    assert [chunk.call_id for chunk in talk.answers(1)] == [3]
    assert not talk.server.is_done
    engine.goes_on.set()
    assert [chunk.call_id for chunk in talk.answers(1)] == [1]
    assert read(page) == ()
    page.close()


def test_a_call_that_is_taken_back_meanwhile_is_not_answered(slow):
    engine, talk = slow
    talk.say(large(1), large(2))
    while not engine.begun.is_set():
        talk.server.step()
    talk.say(Cancel(1))
    talk.say(call(3))
    assert [chunk.call_id for chunk in talk.answers(1)] == [3]
    engine.goes_on.set()
    assert [chunk.call_id for chunk in talk.answers(1)] == [2]


def test_what_is_wrong_with_a_large_call_is_its_answer(slow):
    engine, talk = slow
    engine.goes_on.set()
    talk.say(large(1, *("x",) * 50, "bad"), Stop())
    (chunk,) = talk.answers(1)
    assert chunk.fault is not None
    assert "bad" in chunk.fault.message
    assert talk.server.is_done


def test_while_a_grammar_is_compiled_other_calls_are_answered(slow):
    engine, talk = slow
    ruled = [Ask(Call(number, "mood:1", "chat", ("x",), {"regex": "(a{9}){9}"})) for number in (1, 2)]
    talk.say(*ruled)
    while not engine.begun.is_set():
        talk.server.step()
    for number in range(3, 8):
        talk.say(call(number))
        assert [chunk.call_id for chunk in talk.answers(1)] == [number]
    talk.say(large(8))  # which another thread takes in
    talk.say(Cancel(1), Cancel(2))
    talk.say(call(9))
    assert [chunk.call_id for chunk in talk.answers(1)] == [9]
    engine.goes_on.set()
    assert [chunk.call_id for chunk in talk.answers(1)] == [8]
    talk.say(Stop())
    while not talk.server.is_done:
        talk.server.step()


@pytest.mark.parametrize("size", [1, 100], ids=["at once", "beside"])
def test_of_a_call_that_was_sent_alone_it_is_said_that_it_is_in_and_of_others_not(daemon, size):
    daemon.say(Attach(MOOD))
    daemon.say(*(Ask(Call(number, "mood:1", "classify", ("x",) * size), number == 2) for number in (1, 2)))
    heard = []
    while not any(isinstance(one, Chunks) and any(c.call_id == 2 and c.is_last for c in one.chunks) for one in heard):
        heard.append(daemon.hear())
    assert [one for one in heard if isinstance(one, TakenIn)] == [TakenIn(2)]


def test_of_large_calls_the_higher_class_is_taken_in_first(slow):
    engine, talk = slow
    talk.say(large(1))
    while not engine.begun.is_set():
        talk.server.step()
    talk.say(Ask(Call(2, "mood:1", "classify", ("x",) * 100, priority=Priority.BACKGROUND)), large(3))
    talk.say(call(4))
    talk.answers(1)
    engine.goes_on.set()
    assert [chunk.call_id for chunk in talk.answers(3)] == [1, 3, 2]


class Counted(Endless):
    """An engine that says how far a large call is."""

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.0

    def step(self) -> list[Chunk]:
        self.share += 0.05
        return []

    @property
    def progress(self) -> dict[int, float]:
        return dict.fromkeys(self.live, self.share)


def test_how_far_a_large_call_is_is_said_every_eighth():
    talk = Talk(Counted())
    talk.say(call(1))
    for _ in range(20):
        talk.server.step()
    talk.ours.setblocking(True)
    said = Splitter().feed(talk.ours.recv(1 << 16))
    assert [round(one.share, 2) for one in said if isinstance(one, Computed)] == [0.15, 0.3, 0.45, 0.6, 0.75, 0.9]
    talk.close()


def test_the_last_chunk_of_an_answer_has_the_time_that_taking_it_in_took(daemon):
    daemon.say(Attach(MOOD), call(1), call(2, "nobody:1"))
    answers = daemon.chunks(2)
    times = answers[1].times
    assert times is not None
    assert times.tokenize_s > 0
    assert times.compute_s > 0
    assert answers[2].fault is not None
    assert answers[2].times is None
