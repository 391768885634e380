"""The kernel with real children of the null engine: calls, kills, restarts, promotions, and starting again."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.call import CallRequest, Chunk
from llmos.abi.error import (
    BadInput,
    BadSetting,
    Busy,
    Cancelled,
    Conflict,
    Corrupt,
    Crashed,
    IllegalMove,
    LlmosError,
    ModelNotFound,
    NoRoom,
    ProcessDied,
    ProcessNotFound,
    TimedOut,
    WrongTask,
)
from llmos.abi.gate import Gate
from llmos.abi.model import Kind, Manifest
from llmos.abi.note import SLOT
from llmos.abi.process import Priority, Process, Spec, State
from llmos.config import Config
from llmos.kernel.calls.call_service import task_of
from llmos.kernel.children.logs import log_path, rotated_numbers
from llmos.kernel.kernel import Kernel
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base, add_model

pytestmark = pytest.mark.slow

RECIPE = {"base": "tiny", "task": "tag", "name": "x", "data": {"train": "/x"}}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the base tiny:1 and two versions of a model on it, the second of them promoted."""
    store = Store(tmp_path)
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=901)
    add_model(store, "mood", "tiny:1", pid=902)
    store.promote("mood:2")
    return tmp_path


@asynccontextmanager
async def running(
    home: Path, clock: Callable[[], float] = time.time, **settings: Any
) -> AsyncIterator[Kernel]:  # Any: fields of Config
    box = Kernel(Config(home, engine="null", stop_grace_s=5.0, **settings), clock=clock)
    await box.start()
    box.warm()
    try:
        yield box
    finally:
        await box.stop()


def with_box(home: Path, act: Callable[[Kernel], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with running(home, **settings) as box:
            await act(box)

    asyncio.run(main())


async def ask(box: Kernel, model: str, text: str = "hello", task: str | None = None) -> Chunk:
    chunk = await box.calls.answer(CallRequest(model, (text,), task=task))
    assert chunk.is_last
    return chunk


def server(box: Kernel) -> Process:
    (process,) = [p for p in box.processes.all() if p.spec.program == "serve" and p.state is not State.EXITED]
    return process


async def until(box: Kernel, pid: int, state: State) -> Process:
    async for stream_event in box.processes.watch(pid):
        if stream_event.process is not None and stream_event.process.state is state:
            return stream_event.process
    raise AssertionError(f"pid {pid} ended as {box.processes.get(pid).state}")


def test_models_of_one_base_share_a_process_and_the_same_text_gets_the_same_answer(home):
    async def act(box: Kernel) -> None:
        first, again, base = await asyncio.gather(ask(box, "mood:1"), ask(box, "mood:1"), ask(box, "tiny"))
        assert first.outputs == again.outputs
        assert base.outputs[0]["dim"] > 0
        assert len([p for p in box.processes.all() if p.spec.program == "serve"]) == 1
        assert box.models.get("mood:1").is_attached
        assert not box.models.get("mood:2").is_attached

    with_box(home, act)


def test_a_text_stream_comes_in_pieces_and_closing_it_cancels_the_call(home):
    add_base(Store(home), "talker", "chat", pid=905)

    async def act(box: Kernel) -> None:
        pieces = [chunk async for chunk in box.calls.stream(CallRequest("talker", ("go",), task="generate"))]
        whole = await box.calls.answer(CallRequest("talker", ("go",), task="generate"))
        assert len(pieces) > 1
        assert "".join(chunk.outputs[0]["text"] for chunk in pieces) == whole.outputs[0]["text"]
        stream = box.calls.stream(CallRequest("talker", ("go",), task="generate"))
        await anext(stream)
        await stream.aclose()
        assert box.status().in_flight == 0

    with_box(home, act)


@pytest.mark.parametrize(
    ("model", "task", "error"),
    [
        ("nobody", None, ModelNotFound),
        ("mood", "tag", WrongTask),
        ("mood:9", None, ModelNotFound),
        ("Ä", None, BadInput),
    ],
)
def test_a_call_that_cannot_work_is_refused_before_any_process_is_started(home, model, task, error):
    async def act(box: Kernel) -> None:
        with pytest.raises(error):
            await ask(box, model, task=task)
        assert not any(p.spec.program == "serve" for p in box.processes.all())

    with_box(home, act)


def test_an_encoder_decoder_base_does_its_tasks_and_a_model_on_it_its_own() -> None:
    does = {"tasks": ["translate", "summarize", "generate"]}
    base = Manifest("opus", 1, Kind.BASE, "translate", (), options=does)
    assert [task_of(base, task) for task in (None, "summarize", "generate")] == ["translate", "summarize", "generate"]
    for manifest, task in ((base, "chat"), (replace(base, kind=Kind.MODEL), "summarize")):
        with pytest.raises(WrongTask):
            task_of(manifest, task)


@pytest.mark.parametrize(
    ("inputs", "params", "size", "unit"),
    [
        (["x"] * 2049, {}, 2_049, "inputs"),
        (["x"] * 17, {"n": 128}, 2_176, "answers"),
        ([{"query": "x", "documents": ["x"] * 1025}] * 2, {}, 2_050, "documents"),
    ],
)
def test_more_than_a_call_may_ask_for_is_refused_before_any_process_is_started(home, inputs, params, size, unit):
    async def act(box: Kernel) -> None:
        with fails_with(BadInput, size=size, unit=unit, limit=2_048):
            await box.calls.answer(CallRequest("mood", tuple(inputs), params))
        assert not any(p.spec.program == "serve" for p in box.processes.all())

    with_box(home, act)


def test_a_bad_input_is_the_answer_to_its_own_call_only(home):
    async def act(box: Kernel) -> None:
        bad = box.calls.answer(CallRequest("mood", ({"no": "text"},)))
        done = await asyncio.gather(bad, ask(box, "mood"), return_exceptions=True)
        assert isinstance(done[0], BadInput)
        assert isinstance(done[1], Chunk)

    with_box(home, act)


def test_every_call_in_flight_is_answered_though_its_process_is_killed(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        killed = server(box).os_pid
        assert killed is not None
        calls = [asyncio.ensure_future(ask(box, "mood", f"text {i}")) for i in range(200)]
        await asyncio.sleep(0)
        os.kill(killed, signal.SIGKILL)
        answers = await asyncio.gather(*calls)
        assert len(answers) == 200
        process = server(box)
        assert process.restarts == 1 or process.os_pid == killed  # all may have been answered before the signal came

    with_box(home, act)


def test_a_suspended_process_that_is_killed_loses_no_call(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        os_pid = server(box).os_pid
        assert os_pid is not None
        os.kill(os_pid, signal.SIGSTOP)
        calls = [asyncio.ensure_future(ask(box, "mood", f"text {i}")) for i in range(50)]
        await asyncio.sleep(0)
        assert box.status().in_flight == 50
        os.kill(os_pid, signal.SIGKILL)
        assert len(await asyncio.gather(*calls)) == 50
        assert server(box).restarts == 1

    with_box(home, act)


def noted(os_pid: int, call_id: int) -> None:
    """Write into the note of a process that it takes this call in."""
    for name in os.listdir(f"/proc/{os_pid}/fd"):
        if "llmos-note" in os.readlink(f"/proc/{os_pid}/fd/{name}"):
            with open(f"/proc/{os_pid}/fd/{name}", "r+b") as note:
                note.write(SLOT.pack(call_id + 1))


def test_a_call_that_crashed_its_process_fails_and_its_neighbours_are_answered(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        os_pid = server(box).os_pid
        assert os_pid is not None
        os.kill(os_pid, signal.SIGSTOP)
        poison, *innocent = [asyncio.ensure_future(ask(box, "mood", f"text {i}")) for i in range(20)]
        await asyncio.sleep(0)
        assert box.status().in_flight == 20
        noted(os_pid, 2)
        os.kill(os_pid, signal.SIGSEGV)
        os.kill(os_pid, signal.SIGCONT)
        with pytest.raises(Crashed):
            await poison
        assert len(await asyncio.gather(*innocent)) == 19
        assert server(box).restarts == 1
        assert box.table.runtimes[server(box).pid].crashes == 0

    with_box(home, act)


def test_a_call_that_was_taken_in_when_its_process_was_killed_is_sent_again(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        os_pid = server(box).os_pid
        assert os_pid is not None
        os.kill(os_pid, signal.SIGSTOP)
        call = asyncio.ensure_future(ask(box, "mood", "text"))
        await asyncio.sleep(0)
        noted(os_pid, 2)
        os.kill(os_pid, signal.SIGKILL)
        assert (await call).fault is None

    with_box(home, act)


def test_a_process_killed_by_force_answers_its_calls_with_that(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        process = server(box)
        assert process.os_pid is not None
        os.kill(process.os_pid, signal.SIGSTOP)
        call = asyncio.ensure_future(ask(box, "mood"))
        await asyncio.sleep(0)
        await box.processes.kill(process.pid, force=True)
        with pytest.raises(ProcessDied):
            await call
        assert (await ask(box, "mood")).fault is None, "the next call starts a new one"
        assert server(box).pid != process.pid

    with_box(home, act)


def test_children_share_one_session_and_have_process_groups_of_their_own(home):
    async def act(box: Kernel) -> None:
        await asyncio.gather(ask(box, "tiny"))
        child, zygote = server(box).os_pid, box.zygote_os_pid
        assert child is not None
        assert os.getsid(child) == os.getsid(zygote) != os.getsid(0)
        assert os.getpgid(child) == child

    with_box(home, act)


def test_a_class_given_while_a_process_is_being_born_is_the_one_it_lives_in(home):
    async def main() -> None:
        box = Kernel(Config(home, engine="null"))
        await box.start()
        (probe,) = box.processes.all()
        assert (probe.os_pid, probe.spec.priority) == (None, Priority.INTERACTIVE)
        assert (await box.processes.nice(probe.pid, Priority.BACKGROUND)).state is State.STARTING
        box.warm()
        async for stream_event in box.processes.watch(probe.pid):
            if stream_event.process is not None and stream_event.process.os_pid is not None:
                break
        os_pid = box.processes.get(probe.pid).os_pid
        assert os_pid is not None
        assert os.sched_getscheduler(os_pid) == os.SCHED_IDLE
        await box.stop()

    asyncio.run(main())


def test_the_zygote_may_die_and_touches_no_child(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        before, zygote = server(box), box.zygote_os_pid
        assert zygote is not None
        os.kill(zygote, signal.SIGKILL)
        assert (await ask(box, "mood")).fault is None
        assert server(box).os_pid == before.os_pid
        await box.processes.kill(before.pid)
        assert (await ask(box, "mood")).fault is None, "the next zygote forks as well"

    with_box(home, act)


def test_the_gate_s_policy_of_a_name_outlives_the_daemon(home):
    async def change(box: Kernel) -> None:
        assert box.models.gate("mood").is_default
        await box.models.set_gate("mood", ["not-worse"], 0.01)
        with pytest.raises(BadInput):
            await box.models.set_gate("mood", ["nonsense"], None)

    async def look(box: Kernel) -> None:
        assert box.models.gate("mood") == Gate("mood", ("not-worse",), 0.01, False)
        assert (await box.models.reset_gate("mood")).is_default

    with_box(home, change)
    with_box(home, look)


def test_the_usual_policy_is_kept_where_somebody_has_chosen_it(home):
    async def change(box: Kernel) -> None:
        assert (await box.learning.state("mood")).gate == ("better-or-new-labels",)
        await box.models.set_gate("mood", ["at-least-as-good"], None)

    async def look(box: Kernel) -> None:
        assert box.models.gate("mood") == Gate("mood", ("at-least-as-good",), 0.0, False)
        assert (await box.learning.state("mood")).gate == ("at-least-as-good",)
        await box.models.reset_gate("mood")
        assert (await box.learning.state("mood")).gate == ("better-or-new-labels",)

    with_box(home, change)
    with_box(home, look)


def test_a_bare_name_follows_promotion_and_rollback(home):
    async def act(box: Kernel) -> None:
        assert box.models.get("mood").manifest.version == 2
        assert (await box.models.promote("mood:1")).is_promoted
        assert (await box.models.rollback("mood")).manifest.ref == "mood:2"
        with pytest.raises(Conflict):
            await box.models.rollback("mood")

    with_box(home, act)


def test_a_name_without_a_promoted_version_serves_none_and_can_be_looked_at(home):
    store = Store(home)
    add_model(store, "raw", "tiny:1", pid=903)
    add_model(store, "raw", "tiny:1", pid=904)

    async def act(box: Kernel) -> None:
        with fails_with(Conflict, name="raw", candidates=["raw:1", "raw:2"]):
            await ask(box, "raw")
        assert box.models.get("raw").manifest.ref == "raw:2"
        assert (await ask(box, "raw:1")).fault is None
        await box.models.promote("raw:1")
        assert (await ask(box, "raw")).fault is None

    with_box(home, act)


def test_calls_go_on_while_the_name_moves(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")

        async def callers() -> list[Chunk]:
            return [await ask(box, "mood", f"text {i}") for i in range(100)]

        async def mover() -> None:
            for version in (1, 2, 1, 2):
                await box.models.promote(f"mood:{version}")

        answers, _ = await asyncio.gather(callers(), mover())
        assert all(answer.fault is None for answer in answers)

    with_box(home, act)


def test_superseded_candidates_go_with_their_bytes_and_one_that_answers_calls_stays(home):
    store = Store(home)
    add_model(store, "mood", "tiny:1", pid=903)

    async def act(box):
        await ask(box, "mood:1")
        assert await box.models.remove_superseded(["mood:1", "mood:3", "gone:1"]) == ["mood:3"]
        assert [one.manifest.ref for one in box.models.all()] == ["mood:1", "mood:2", "tiny:1"]
        assert (await box.models.disk_use()).reclaimable_bytes == 0

    with_box(home, act)


def test_a_superseded_candidate_that_was_promoted_meanwhile_stays(home):
    async def act(box):
        await box.models.promote("mood:2")
        assert await box.models.remove_superseded(["mood:2"]) == []
        assert box.models.get("mood").manifest.ref == "mood:2"

    with_box(home, act)


def test_a_removed_model_is_gone_for_the_next_call_and_a_base_in_use_stays(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood:1")
        with pytest.raises(Conflict):
            await box.models.remove("tiny")
        assert await box.models.remove("mood:1") == ["mood:1"]
        with pytest.raises(ModelNotFound):
            await ask(box, "mood:1")
        assert (await ask(box, "mood")).fault is None

    with_box(home, act)


@pytest.mark.parametrize(
    ("spec", "error", "detail"),
    [
        (Spec("train", {"base": "nobody"}), ModelNotFound, {"name": "nobody"}),
        (Spec("train", {"base": "mood:1"}), BadInput, {"model": "mood:1", "base": "tiny:1"}),
        (Spec("train", {"base": "tiny"}), BadInput, {"field": ...}),
        (
            Spec("train", {"base": "tiny", "task": "guess", "name": "x", "data": {"train": "/x"}}),
            BadInput,
            {"task": "guess"},
        ),
        (
            Spec("train", {"base": "tiny", "task": "tag", "name": "X", "data": {"train": "/x"}}),
            BadInput,
            {"name": "'X'"},
        ),
        (
            Spec("train", {"base": "tiny", "task": "tag", "name": "tiny", "data": {"train": "/x"}}),
            BadInput,
            {"key": "name", "value": "tiny"},
        ),
        (
            Spec("train", {"base": "tiny", "task": "tag", "name": "x", "data": {"train": "/x"}}),
            BadInput,
            {"file": "/x"},
        ),
        (Spec("train", {**RECIPE, "learning_rte": 1e-4}), BadSetting, {"key": "learning_rte"}),
        (Spec("train", {**RECIPE, "data": {"train": "/x", "txt": "a"}}), BadSetting, {"key": "data.txt"}),
        (Spec("train", {**RECIPE, "epochs": -1}), BadSetting, {"key": "epochs", "value": ...}),
        (
            Spec("train", {**RECIPE, "data": {"train": __file__}}, device="cuda7"),
            BadSetting,
            {"key": "device", "value": "cuda7"},
        ),
        (Spec("pull", {"source": "/nowhere/model.gguf"}), BadInput, {"key": "source", "value": "/nowhere/model.gguf"}),
        (Spec("pull", {}), BadInput, {"key": "source"}),
        (Spec("evaluate", {}), BadInput, {"key": "model"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_process_that_cannot_work_is_refused_at_once(home, spec, error, detail):
    async def act(box: Kernel) -> None:
        before = len(box.processes.all())
        with fails_with(error, **detail):
            await box.processes.submit(spec)
        assert len(box.processes.all()) == before

    with_box(home, act)


def test_a_process_that_no_eviction_could_make_room_for_is_refused_with_numbers(home):
    async def act(box: Kernel) -> None:
        box.table.ledger.own(box.devices(), 0.000001)
        with pytest.raises(NoRoom) as refused:
            await ask(box, "mood")
        assert refused.value.detail["need_bytes"] > refused.value.detail["free_bytes"]

    with_box(home, act)


async def leave_free(box: Kernel, size_bytes: int) -> None:
    """Let the processor have as much memory as serving has leased, and so much more."""
    for process in box.processes.all():
        if process.spec.program == "probe":
            await until(box, process.pid, State.EXITED)
    (device,) = box.devices()
    leased = sum(lease.size_bytes for lease in box.status().leases)
    box.table.ledger.own([replace(device, memory_bytes=leased + size_bytes)], 1.0)


def test_an_idle_model_gives_way_to_another_and_returns_with_its_next_call(home):
    async def act(box: Kernel) -> None:
        first = await ask(box, "mood:1")
        await leave_free(box, 8)
        for model in ("mood:2", "mood:1", "mood:2", "mood:1"):
            answer = await ask(box, model)
            assert [one for one in ("mood:1", "mood:2") if box.models.get(one).is_attached] == [model]
            assert box.status().free_bytes["cpu0"] >= 0
        assert answer.outputs == first.outputs
        assert server(box).restarts == 0

    with_box(home, act)


def test_an_idle_process_of_another_base_gives_way_to_a_model(home):
    add_base(Store(home), "talker", "chat", pid=905)

    async def act(box: Kernel) -> None:
        await asyncio.gather(ask(box, "tiny"), ask(box, "talker", task="generate"))
        talker = next(p for p in box.processes.all() if p.spec.args.get("base") == "talker:1")
        await leave_free(box, 0)
        assert (await ask(box, "mood:1")).fault is None
        ended = box.processes.get(talker.pid)
        assert (ended.state, ended.reason) == (State.EXITED, "room for mood:1")

    with_box(home, act)


def test_a_model_that_could_never_fit_is_refused_and_what_was_there_stays(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood:1")
        await leave_free(box, 0)
        with pytest.raises(NoRoom) as refused:
            await ask(box, "mood:2")  # which is a little larger
        assert refused.value.detail["need_bytes"] > refused.value.detail["free_bytes"] > 0
        assert box.models.get("mood:1").is_attached

    with_box(home, act)


def test_a_call_waits_within_its_time_for_the_room_that_others_use(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood:1")
        await leave_free(box, 8)
        os_pid = server(box).os_pid
        assert os_pid is not None
        os.kill(os_pid, signal.SIGSTOP)
        first = asyncio.ensure_future(ask(box, "mood:1"))
        await asyncio.sleep(0)
        with fails_with(TimedOut, model="mood:2", timeout_s=0.2, device="cpu0", free_bytes=...):
            await box.calls.answer(CallRequest("mood:2", ("x",), timeout_s=0.2))
        second = asyncio.ensure_future(ask(box, "mood:2"))
        await asyncio.sleep(0)
        os.kill(os_pid, signal.SIGCONT)
        assert (await first).fault is None
        assert (await second).fault is None
        wakes = box.status().wakes
        assert (wakes["tiny:1"], wakes["mood:1"], wakes["mood:2"]) == (1, 1, 1)

    with_box(home, act)


def test_a_call_that_is_not_answered_in_time_is_taken_back_and_frees_its_place(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        os_pid = server(box).os_pid
        assert os_pid is not None
        os.kill(os_pid, signal.SIGSTOP)
        with fails_with(TimedOut, model="mood:2", timeout_s=0.01, pid=server(box).pid):
            await box.calls.answer(CallRequest("mood", ("x",), timeout_s=0.01))
        assert box.status().in_flight == 0
        os.kill(os_pid, signal.SIGCONT)
        assert (await ask(box, "mood")).fault is None

    with_box(home, act)


class Leaping:
    """A wall clock that somebody sets again before each look at it."""

    def __init__(self, by_s: float) -> None:
        self.by_s = by_s
        self.now = time.time()

    def __call__(self) -> float:
        self.now += self.by_s
        return self.now


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_shortens_and_lengthens_nothing_that_is_waited_for(home, by_s):
    async def act(box: Kernel) -> None:
        assert (await ask(box, "mood")).fault is None
        process = server(box)
        assert process.os_pid is not None
        os.kill(process.os_pid, signal.SIGSTOP)
        with pytest.raises(TimedOut):
            await box.calls.answer(CallRequest("mood", ("x",), timeout_s=0.3))
        patient = asyncio.ensure_future(box.calls.answer(CallRequest("mood", ("x",), timeout_s=60)))
        await asyncio.sleep(0)
        os.kill(process.os_pid, signal.SIGCONT)
        assert (await patient).fault is None
        ended = await until(box, process.pid, State.EXITED)
        assert ended.reason == "no call for 1 s"

    with_box(home, act, clock=Leaping(by_s), idle_timeout_s=1.0)


def test_more_calls_than_may_wait_are_told_to_come_back_later(home):
    async def act(box: Kernel) -> None:
        calls = [ask(box, "mood", f"text {i}") for i in range(5)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Chunk, Chunk, Busy, Busy, Busy]
        assert (await ask(box, "mood")).fault is None

    with_box(home, act, max_waiting_calls=2)


def test_the_log_of_a_process_is_kept_and_can_be_followed(home):
    async def act(box: Kernel) -> None:
        with pytest.raises(ProcessNotFound):
            await box.processes.log(99)
        (home / "empty").mkdir()
        process = await box.processes.submit(Spec("pull", {"source": str(home / "empty")}))
        text = "".join([piece async for piece in box.processes.follow_log(process.pid)])
        ended = box.processes.get(process.pid)
        assert ended.state is State.EXITED
        assert ended.fault is not None
        assert text == await box.processes.log(process.pid)
        assert "no weights" in text
        assert (await box.processes.log(process.pid, tail_lines=1)).count("\n") <= 1
        with pytest.raises(IllegalMove):
            await box.processes.kill(process.pid)

    with_box(home, act)


def test_the_log_of_a_process_that_lives_is_rotated_and_who_follows_it_reads_on(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        process = server(box)
        log = log_path(home, process.pid)
        following = box.processes.follow_log(process.pid)
        for number in (1, 2):
            await asyncio.to_thread(fill, log, number, process.os_pid)
        text = ""
        while not text.endswith("2\n"):
            text += await anext(following)
        await following.aclose()
        assert text == "1" * 5000 + "\n" + "2" * 5000 + "\n"
        assert text == await box.processes.log(process.pid)
        assert await box.processes.log(process.pid, tail_lines=1) == "2" * 5000 + "\n"

    with_box(home, act, max_log_bytes=4096)


def fill(log: Path, number: int, os_pid: int | None) -> None:
    """Print so much as that process that its log is rotated, and wait until it prints to the next file."""
    with Path(f"/proc/{os_pid}/fd/1").open("a") as printed:
        printed.write(f"{number}" * 5000 + "\n")
    while not (
        rotated_numbers(log) == list(range(1, number + 1)) and log.exists() and log.samefile(f"/proc/{os_pid}/fd/2")
    ):
        time.sleep(0.01)


def test_weights_that_the_disk_has_damaged_serve_nobody_and_the_call_hears_which(home):
    blob = home / "models" / "tiny" / "1" / "model.safetensors"
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\1")

    async def act(box: Kernel) -> None:
        with fails_with(Corrupt, file="model.safetensors"):
            await ask(box, "mood")

    with_box(home, act)


async def nothing(box: Kernel) -> None:
    """A start and an end are all."""


def test_a_home_without_its_journal_gives_no_old_scratch_to_a_new_process(home):
    old = home / "scratch" / "1" / "checkpoint"
    old.mkdir(parents=True)
    with_box(home, nothing)
    assert not old.exists()


def test_a_daemon_starts_answers_and_ends_what_runs_though_its_disk_is_full(home):
    with_box(home, nothing)

    async def main() -> None:
        box = Kernel(Config(home, engine="null"))
        await box.start()
        assert box.models.get("mood").manifest.ref == "mood:2"
        with pytest.raises(LlmosError):
            await box.processes.submit(Spec("evaluate", {"model": "mood:1", "data": []}))
        await box.stop()

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        asyncio.run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


DAEMON = """
import asyncio, sys
from pathlib import Path
from llmos.abi.call import CallRequest
from llmos.config import Config
from llmos.kernel.kernel import Kernel

async def main():
    box = Kernel(Config(Path(sys.argv[1]), engine="null"))
    await box.start()
    box.warm()
    await box.models.promote("mood:1")
    await box.calls.answer(CallRequest("mood", ("x",)))
    await box.processes.suspend(2)
    print(box.processes.get(2).os_pid, box.zygote_os_pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_children_end_with_a_killed_daemon_and_the_next_start_knows_what_was(home):
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(home)], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        os_pids = [int(word) for word in daemon.stdout.readline().split()]
        watches = [os.pidfd_open(os_pid) for os_pid in os_pids]
        daemon.kill()
    for watch in watches:
        assert select.select([watch], [], [], 20.0)[0], "it is still there"
        os.close(watch)

    async def act(box: Kernel) -> None:
        assert (box.processes.get(2).state, box.processes.get(2).reason) == (State.EXITED, "ended with the daemon")
        assert box.models.get("mood").manifest.ref == "mood:1"
        assert (await ask(box, "mood")).fault is None
        assert server(box).pid == 3

    with_box(home, act)


def test_a_stopped_serve_process_is_replaced_and_the_next_answers_its_calls(home):
    async def act(box: Kernel) -> None:
        before = await ask(box, "mood", "steady")
        process = server(box)
        assert process.os_pid is not None
        event_stream = box.processes.watch(process.pid)
        await anext(event_stream)
        os.kill(process.os_pid, signal.SIGSTOP)
        asked = asyncio.gather(*(ask(box, "mood", f"text {i}") for i in range(5)), ask(box, "mood", "steady"))
        queued = await anext(stream_until(event_stream, lambda p: p.state is State.QUEUED))
        assert queued.process.reason.startswith("a signal had stopped it")
        answers = await asked
        assert answers[-1].outputs == before.outputs
        now = server(box)
        assert (now.pid, now.restarts, now.unresponsive_since) == (process.pid, 1, None)
        assert now.os_pid != process.os_pid

    with_box(home, act, heartbeat_timeout_s=3.0)


async def stream_until(event_stream, is_there):
    """What happens to processes, the last of it what was waited for."""
    async for one in event_stream:
        if one.process is not None and is_there(one.process):
            yield one
            return


def test_a_trainer_like_process_that_was_stopped_is_shown_and_may_be_resumed(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        process = server(box)
        assert process.os_pid is not None
        event_stream = box.processes.watch(process.pid)
        await anext(event_stream)
        os.kill(process.os_pid, signal.SIGSTOP)
        silent = await anext(stream_until(event_stream, lambda p: p.unresponsive_since is not None))
        assert silent.process.state is State.READY
        await box.processes.resume(process.pid)
        await anext(stream_until(event_stream, lambda p: p.unresponsive_since is None))
        assert (await ask(box, "mood")).fault is None
        assert server(box).restarts == 0
        with pytest.raises(IllegalMove):
            await box.processes.resume(process.pid)

    with_box(home, act, heartbeat_timeout_s=0.0)


def test_a_stopped_zygote_is_replaced_and_the_next_one_forks_what_waits(home):
    async def act(box: Kernel) -> None:
        zygote = await with_a_stopped_zygote(box)
        assert (await ask(box, "mood")).fault is None
        assert box.zygote_os_pid != zygote

    with_box(home, act, heartbeat_timeout_s=3.0)


def test_a_process_killed_while_a_stopped_zygote_was_to_fork_it_fails_its_calls(home):
    async def act(box: Kernel) -> None:
        await with_a_stopped_zygote(box)
        starting = asyncio.ensure_future(
            anext(stream_until(box.processes.watch(), lambda p: p.state is State.STARTING))
        )
        await asyncio.sleep(0)
        asked = asyncio.ensure_future(ask(box, "mood"))
        process = (await starting).process
        await box.processes.kill(process.pid, force=True)
        with fails_with(Cancelled):
            await asked
        assert box.processes.get(process.pid).state is State.EXITED

    with_box(home, act, heartbeat_timeout_s=0.0)


async def with_a_stopped_zygote(box: Kernel) -> int:
    """The zygote was warm and has forked; then a signal stopped it, and what it had forked has ended."""
    await ask(box, "mood")
    zygote = box.zygote_os_pid
    assert zygote is not None
    os.kill(zygote, signal.SIGSTOP)
    pid = server(box).pid
    await box.processes.kill(pid, force=True)
    await until(box, pid, State.EXITED)
    return zygote


def test_no_verb_waits_for_a_process_that_a_signal_has_stopped(home):
    async def act(box: Kernel) -> None:
        await ask(box, "mood")
        process = server(box)
        assert process.os_pid is not None
        os.kill(process.os_pid, signal.SIGSTOP)
        async with asyncio.timeout(60.0):
            assert (await box.models.promote("mood:1")).is_promoted
            assert await box.models.remove("mood:2") == ["mood:2"]
            assert (await box.processes.nice(process.pid, Priority.BATCH)).spec.priority is Priority.BATCH
            assert (await box.processes.suspend(process.pid)).state is State.SUSPENDED
            assert (await box.processes.resume(process.pid)).state is State.READY
            os.kill(process.os_pid, signal.SIGSTOP)
            await box.processes.kill(process.pid)
            assert (await until(box, process.pid, State.EXITED)).exit_code == 0

    with_box(home, act, heartbeat_timeout_s=0.0)
