"""Rollouts through the kernel with real children of the null engine, whose versions agree by chance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.call import CallRequest, Chunk
from llmos.abi.disagreement import CallOrigin
from llmos.abi.disagreement_file import FILE
from llmos.abi.error import BadInput, Conflict, LlmosError, ModelNotFound, NotFound, TimedOut
from llmos.abi.rollout import Mode, Stage, Tally
from llmos.config import Config
from llmos.kernel.kernel import Kernel
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base, add_model

pytestmark = pytest.mark.slow

ERRORS = ("errors<=0.2",)
PATIENCE_S = 120.0  # of a test that would otherwise ask for ever


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with three versions of a model, the second of them promoted."""
    store = Store(tmp_path)
    add_base(store)
    for pid in (901, 902, 903):
        add_model(store, "mood", "tiny:1", pid=pid)
    add_model(store, "names", "tiny:1", task="tag", labels=("O", "B-PER"), pid=904)
    store.promote("mood:2")
    return tmp_path


@asynccontextmanager
async def running(home: Path, **settings: Any) -> AsyncIterator[Kernel]:  # Any: fields of Config
    box = Kernel(Config(home, engine="null", stop_grace_s=5.0, **settings))
    await box.start()
    box.warm()
    try:
        yield box
    finally:
        await box.stop()


def with_box(home: Path, act: Callable[[Kernel], Awaitable[None]]) -> None:
    async def main() -> None:
        async with running(home) as box:
            await act(box)

    asyncio.run(main())


async def ask(box: Kernel, text: str, user: str | None = None) -> tuple[str, Chunk]:
    """As the API asks the bare name; the version that answered, and its answer."""
    chosen = box.rollouts.choose("mood", user, [text])
    ref, rollout = (box.calls.ref("mood"), "") if chosen is None else (chosen.ref, chosen.rollout)
    return ref, await box.calls.answer(CallRequest(ref, (text,), task="classify", rollout=rollout))


async def answers_to_its_end(box: Kernel) -> list[tuple[str, Chunk]]:
    """Ask until the rollout has ended: calls go on while the journal writes what was decided, however long it takes."""
    answers: list[tuple[str, Chunk]] = []
    until = time.monotonic() + PATIENCE_S
    while box.rollouts.choose("mood", None, []) is not None:
        assert time.monotonic() < until, f"a rollout that has not ended after {len(answers)} calls"
        answers.append(await ask(box, f"text {len(answers)}"))
    return answers


async def ended(box: Kernel) -> Stage:
    await answers_to_its_end(box)
    return box.rollouts.get("mood").rollout.stage


def test_a_candidate_that_agrees_by_chance_is_rolled_back_within_300_calls(home):
    async def act(box: Kernel) -> None:
        await box.rollouts.start("mood", 3, {"guards": ("agreement>=0.8",)})
        await answers_to_its_end(box)
        view = box.rollouts.get("mood")
        assert view.rollout.stage is Stage.ROLLED_BACK
        assert view.rollout.tallies["agreement"].count <= 300
        assert view.guards[0].state == "broken"
        assert box.calls.ref("mood") == "mood:2"
        assert view.rollout.history[-1].figures["high"] < 0.8

    with_box(home, act)


def test_a_canary_that_keeps_its_guards_is_promoted_step_by_step(home):
    async def act(box: Kernel) -> None:
        await box.rollouts.start("mood", 3, {"guards": ERRORS, "calls": 10, "steps": (0.5, 1.0)})
        assert box.models.get("mood:3").rollout == "candidate, canary 50%"
        assert box.models.get("mood:2").rollout == "promoted, beside mood:3"
        assert await ended(box) in (Stage.DONE, Stage.PROMOTING)
        async with aclosing(box.rollouts.watch("mood")) as views:
            view = [one async for one in views][-1]
        assert view.rollout.stage is Stage.DONE
        assert [one.what for one in view.rollout.history] == ["started", "step", "promoting", "promoted"]
        assert box.calls.ref("mood") == "mood:3"
        assert not box.models.get("mood:3").rollout
        assert (await box.models.rollback("mood")).manifest.version == 2  # an ordinary promotion

    with_box(home, act)


def test_a_user_keeps_a_version_and_the_name_latest_is_the_same_name(home):
    async def act(box: Kernel) -> None:
        await box.rollouts.start("mood", 3, {"guards": ERRORS, "share": 0.5, "mode": Mode.AB})
        for user in ("ann", "bob", "cem", "dan"):
            refs = {(await ask(box, f"text {n}", user))[0] for n in range(3)}
            assert len(refs) == 1
        assert box.rollouts.choose("mood:latest", "ann", []) == box.rollouts.choose("mood", "ann", [])
        assert box.rollouts.choose("mood:1", "ann", []) is None
        assert box.rollouts.choose("tiny", "ann", []) is None

    with_box(home, act)


def test_a_shadow_answers_copies_and_nobody_else(home):
    async def act(box: Kernel) -> None:
        await box.rollouts.start("mood", 3, {"mode": Mode.SHADOW, "guards": ("agreement>=0.01",), "calls": 20})
        answers = await answers_to_its_end(box)
        view = box.rollouts.get("mood")
        assert {ref for ref, _ in answers} == {"mood:2"}
        assert view.rollout.stage is Stage.FINISHED
        assert 20 <= view.rollout.tallies["candidate.errors"].count <= view.rollout.tallies["promoted.errors"].count
        assert box.calls.ref("mood") == "mood:2"

    with_box(home, act)


def test_feedback_decides_an_ab_test(home):
    async def act(box: Kernel) -> None:
        await box.rollouts.start("mood", 3, {"mode": Mode.AB, "guards": ("feedback>=promoted",)})
        for _ in range(200):
            box.rollouts.observe_feedback("mood", 3, 1.0)
            box.rollouts.observe_feedback("mood", 2, 0.0)
        async with aclosing(box.rollouts.watch("mood")) as views:
            assert [one async for one in views][-1].rollout.stage is Stage.DONE
        assert not box.rollouts.observe_feedback("mood", 3, 1.0)

    with_box(home, act)


def test_of_an_answer_only_the_first_score_counts(home):
    async def act(box: Kernel) -> None:
        await box.rollouts.start("mood", 3, {"mode": Mode.AB, "guards": ("feedback>=promoted",)})
        for _ in range(300):
            box.rollouts.observe_feedback("mood", 3, 0.0, "req_1/0")
        assert not box.rollouts.observe_feedback("mood", 3, 1.0, "req_1/0")
        assert box.rollouts.observe_feedback("mood", 3, 1.0, "req_1/1")
        tally = box.rollouts.get("mood").rollout.tallies["candidate.feedback"]
        assert (tally.count, tally.total) == (2, 1.0)

    with_box(home, act)


def test_a_restart_goes_on_with_what_was_counted(home):
    async def begin(box: Kernel) -> None:
        await box.rollouts.start("mood", 3, {"guards": ERRORS, "share": 0.5, "calls": 1_000})
        for number in range(20):
            await ask(box, f"text {number}", f"user {number}")

    counted: dict[str, Any] = {}  # Any: tallies by name

    async def go_on(box: Kernel) -> None:
        rollout = box.rollouts.get("mood").rollout
        counted.update(rollout.tallies)
        assert rollout.stage is Stage.RUNNING
        assert (await box.rollouts.stop("mood")).rollout.stage is Stage.STOPPED
        assert box.rollouts.get("mood").rollout.history[-1].what == "stopped"

    with_box(home, begin)
    with_box(home, go_on)
    assert sum(counted[f"{arm}.errors"].count for arm in ("candidate", "promoted")) == 20


def test_a_process_that_is_still_starting_says_nothing_of_a_version(home):
    async def main() -> None:
        box = Kernel(Config(home, engine="null", stop_grace_s=5.0))
        await box.start()
        try:
            await box.rollouts.start("mood", 3, {"guards": ("errors<=0.2", "p90<=1ms"), "share": 1.0, "calls": 1_000})
            for number in range(30):  # no child is born before `warm`
                chosen = box.rollouts.choose("mood", None, [number])
                assert chosen is not None
                with fails_with(TimedOut, cold_start=True):
                    await box.calls.answer(
                        CallRequest(chosen.ref, (f"{number}",), task="classify", timeout_s=0.01, rollout=chosen.rollout)
                    )
            assert box.rollouts.get("mood").rollout.tallies == {}
            waiting = asyncio.ensure_future(ask(box, "it waits for its process"))
            await asyncio.sleep(0)
            box.warm()
            await waiting
            tallies = box.rollouts.get("mood").rollout.tallies
            assert tallies["candidate.errors"] == Tally(1, 0.0)
            assert "candidate.slow@0.001" not in tallies
        finally:
            await box.stop()

    asyncio.run(main())


@pytest.mark.parametrize("mode", list(Mode))
def test_in_each_mode_texts_on_which_versions_disagree_are_kept(home, mode):
    """The null engine's versions agree by chance, about every other time."""
    asked: set[str] = set()

    async def ask_some(box: Kernel) -> None:
        # a bound that twenty pairs neither show to be kept nor to be broken: the rollout goes on
        plan = {"mode": mode, "guards": ("agreement>=0.4",), "share": 0.5, "calls": 100_000}
        await box.rollouts.start("mood", 3, plan)
        number = 0
        while box.rollouts.get("mood").disagreements.pairs < 20:  # copies run after their answers
            number += 1
            text, user = f"text {number}", "ann" if number % 2 else "bob"
            chosen = box.rollouts.choose("mood", user + text, [text])
            assert chosen is not None
            origin = CallOrigin(f"req_{number}", user, may_keep=number % 3 > 0)
            call = CallRequest(chosen.ref, (text,), task="classify", rollout=chosen.rollout, origin=origin)
            await box.calls.answer(call)
            asked.update([text] if number % 3 else [])

    async def main() -> None:
        async with running(home, rollout_texts=True) as box:
            async with asyncio.timeout(240):
                await ask_some(box)
            found = await box.rollouts.disagreements("mood", "", 1_000)
            assert found
            assert {one.text for one in found} <= asked
            assert {one.mode for one in found} == {str(mode)}
            assert all(set(one.answers) == {"mood:2", "mood:3"} for one in found)
            assert all(len(set(map(str, one.answers.values()))) == 2 for one in found)
            state = box.rollouts.get("mood").disagreements
            assert state.kept == len({one.text for one in found})
            mine = len(await box.rollouts.disagreements("mood", "ann", 1_000))
            await box.rollouts.stop("mood")
            assert await box.requests.erase("ann") >= mine
            assert await box.rollouts.disagreements("mood", "ann", 1_000) == []
        async with running(home) as box:
            left = await box.rollouts.disagreements("mood", "", 1_000)
            assert {one.user for one in left} <= {"bob"}
            assert "rollout_texts is off" in box.rollouts.get("mood").disagreements.sentence

    asyncio.run(main())


def test_a_damaged_file_of_disagreements_keeps_no_daemon_from_starting(home):
    (home / FILE).parent.mkdir(exist_ok=True)
    (home / FILE).write_bytes(b"no database, but longer than the header of one. " * 100)

    async def act(box: Kernel) -> None:
        await box.rollouts.start("mood", 3, {"mode": Mode.SHADOW})
        assert box.rollouts.get("mood").disagreements.kept == 0

    with_box(home, act)


def test_what_cannot_be_rolled_out_is_refused(home):
    async def act(box: Kernel) -> None:
        with fails_with(NotFound):
            box.rollouts.get("mood")
        with fails_with(BadInput, key="candidate"):
            await box.rollouts.start("mood", 2, {})
        with fails_with(ModelNotFound, name="mood", version=9):
            await box.rollouts.start("mood", 9, {})
        with fails_with(BadInput, name="mood:2"):
            await box.rollouts.start("mood:2", 3, {})
        with fails_with(Conflict, name="names"):
            await box.rollouts.start("names", 1, {})
        await box.rollouts.start("mood", 3, {"guards": ERRORS})
        with fails_with(Conflict, name="mood"):
            await box.models.remove("mood:3")
        await box.models.promote("mood:1")
        assert box.rollouts.get("mood").rollout.stage is Stage.STOPPED
        with fails_with(NotFound):
            await box.rollouts.stop("mood")

    with_box(home, act)


def test_a_version_that_is_gone_fails_its_calls_and_is_rolled_back(home):
    async def act(box: Kernel) -> None:
        """Its weights are damaged on the disk: attaching it fails, and its users get that error until it is shown."""
        (head,) = (home / "models" / "mood" / "3").glob("head.safetensors")
        head.chmod(0o600)
        head.write_bytes(b"damaged")
        await box.rollouts.start("mood", 3, {"guards": ("errors<=0.05",), "share": 0.5})
        failed = 0
        for number in range(200):
            if box.rollouts.choose("mood", None, []) is None:
                break
            try:
                await ask(box, f"text {number}")
            except LlmosError:
                failed += 1
        assert 0 < failed < 20
        assert box.rollouts.get("mood").rollout.stage is Stage.ROLLED_BACK

    with_box(home, act)
