"""What the tallies of a rollout decide, and how often wrongly."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from llmos.abi.call import Chunk
from llmos.abi.error import BadInput, Busy, Cancelled, Crashed, Internal, LlmosError, TimedOut
from llmos.abi.rollout import CANDIDATE, PROMOTED, Mode, Rollout, Stage, Tally, plan_of
from llmos.abi.task import Family
from llmos.kernel.rollouts.assignment import place_of
from llmos.kernel.rollouts.comparison import agreement, disagreeing
from llmos.kernel.rollouts.decision import RolloutVerdict, decide, guard_states
from llmos.kernel.rollouts.live_rollout import LiveRollout


def rollout(tallies: dict[str, tuple[int, float]] | None = None, **asked: object) -> Rollout:
    plan = plan_of(Family.LABELS, 3, **asked)  # type: ignore[arg-type]  # of several types
    counted = {key: Tally(*value) for key, value in (tallies or {}).items()}
    return Rollout("0a", "mood", 2, plan, 0.0, tallies=counted)


def verdict_of(one: Rollout) -> RolloutVerdict | None:
    found = decide(one)
    return None if found is None else found.verdict


def test_a_rollout_without_calls_decides_nothing() -> None:
    assert decide(rollout()) is None
    assert [one.state for one in guard_states(rollout())] == ["open", "open"]


def test_a_step_is_due_when_its_calls_are_there_and_no_guard_leans() -> None:
    good = {"candidate.errors": (100, 0.0), "promoted.errors": (900, 0.0), "agreement": (100, 97.0)}
    assert verdict_of(rollout(good)) is RolloutVerdict.STEP
    assert verdict_of(rollout({**good, "candidate.errors": (99, 0.0)})) is None
    last = replace(rollout(good), step=3, step_from=0)
    assert verdict_of(last) is RolloutVerdict.PROMOTE
    assert verdict_of(replace(rollout(good, promote=False), step=3)) is RolloutVerdict.FINISH


def test_a_guard_that_leans_holds_and_one_that_is_broken_rolls_back() -> None:
    leaning = {"candidate.errors": (100, 0.0), "promoted.errors": (900, 0.0), "agreement": (100, 79.0)}
    held = rollout(leaning)
    assert verdict_of(held) is RolloutVerdict.HOLD
    assert decide(replace(held, stage=Stage.HOLDING)) is None  # it is said once
    better = {**held.tallies, "agreement": Tally(200, 170.0)}
    assert verdict_of(replace(held, stage=Stage.HOLDING, tallies=better)) is RolloutVerdict.STEP
    broken = decide(rollout({**leaning, "agreement": (100, 40.0)}))
    assert broken is not None
    assert broken.verdict is RolloutVerdict.ROLL_BACK
    assert broken.figures["estimate"] == 0.4
    assert broken.figures["high"] < 0.8


def test_errors_of_both_versions_alike_break_nothing() -> None:
    """The disk is full, say: both fail, and the candidate is not to blame."""
    both = {"candidate.errors": (100, 60.0), "promoted.errors": (900, 540.0), "agreement": (40, 40.0)}
    assert verdict_of(rollout(both)) is RolloutVerdict.STEP
    assert verdict_of(rollout({**both, "promoted.errors": (900, 9.0)})) is RolloutVerdict.ROLL_BACK


def test_a_shadow_ends_without_a_promotion() -> None:
    good = {"candidate.errors": (100, 0.0), "promoted.errors": (100, 0.0), "agreement": (100, 97.0)}
    assert verdict_of(rollout(good, mode=Mode.SHADOW)) is RolloutVerdict.FINISH


def test_an_ab_test_goes_on_until_its_guards_are_shown() -> None:
    def ab(candidate: float, promoted: float) -> RolloutVerdict | None:
        errors = {"candidate.errors": (900, 0.0), "promoted.errors": (900, 0.0)}
        scores = {"candidate.feedback": (900, candidate), "promoted.feedback": (900, promoted)}
        return verdict_of(rollout({**errors, **scores}, mode=Mode.AB))

    assert ab(720.0, 720.0) is None
    assert ab(850.0, 720.0) is RolloutVerdict.PROMOTE
    assert ab(720.0, 850.0) is RolloutVerdict.ROLL_BACK


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage not in (Stage.RUNNING, Stage.HOLDING)])
def test_what_is_decided_or_over_decides_nothing_more(stage: Stage) -> None:
    assert decide(replace(rollout({"agreement": (100, 0.0)}), stage=stage)) is None


def _run(seed: int, agree: float, calls: int, **asked: object) -> tuple[RolloutVerdict | None, int]:
    """Calls of a canary of this agreement, until it ends: its last verdict and the call of it."""
    rng, live = random.Random(seed), LiveRollout(replace(rollout(**asked), id=f"{seed}"))
    verdict = None
    for number in range(1, calls + 1):
        chosen = live.choose(None, [f"text {number}"])
        live.count_call(chosen.ref, None, 0.01)
        live.count_agreement(float(rng.random() < agree))
        found = live.decision()
        if found is not None:
            verdict, present = found.verdict, live.present
            if verdict is RolloutVerdict.STEP:
                step = replace(present, step=present.step + 1, step_from=present.candidate_calls, stage=Stage.RUNNING)
                live.take_over(step)
            elif verdict is RolloutVerdict.HOLD:
                live.take_over(replace(present, stage=Stage.HOLDING))
            else:
                return verdict, number
    return verdict, calls


@pytest.mark.parametrize("agree", [0.02, 0.5])
def test_a_bad_canary_is_rolled_back_within_300_calls(agree: float) -> None:
    """Shuffled labels: of two they agree by chance in half of the calls, of fifty hardly ever."""
    ends = [_run(seed, agree, 300) for seed in range(50)]
    assert {verdict for verdict, _ in ends} == {RolloutVerdict.ROLL_BACK}


@pytest.mark.parametrize("agree", [0.8, 0.95])
def test_a_canary_at_its_bound_or_over_it_is_rarely_rolled_back(agree: float) -> None:
    """It is looked at after each of up to 3,000 calls, and rolled back wrongly in at most 1 of 20 runs."""
    ends = [_run(seed, agree, 3_000)[0] for seed in range(100)]
    assert ends.count(RolloutVerdict.ROLL_BACK) <= 5
    if agree > 0.9:
        assert ends.count(RolloutVerdict.PROMOTE) >= 95


def test_the_same_user_has_the_same_version_and_a_rising_share_takes_nobody_back() -> None:
    live = LiveRollout(rollout())
    users = [f"user {n}" for n in range(2_000)]
    before = {user: live.choose(user, ["any"]).ref for user in users}
    assert before == {user: live.choose(user, [f"text of {user}"]).ref for user in users}
    share = sum(ref == "mood:3" for ref in before.values()) / len(users)
    assert 0.08 < share < 0.12
    live.take_over(replace(live.rollout, step=1))
    after = {user: live.choose(user, ["any"]).ref for user in users}
    assert all(after[user] == "mood:3" for user in users if before[user] == "mood:3")
    assert 0.22 < sum(ref == "mood:3" for ref in after.values()) / len(users) < 0.28


def test_without_a_user_the_same_inputs_have_the_same_version() -> None:
    assert place_of("0a", None, ["hello"]) == place_of("0a", "", ["hello"])
    assert place_of("0a", None, ["hello"]) != place_of("0a", "hello", ["hello"])
    assert place_of("0a", "u", ["hello"]) == place_of("0a", "u", ["bye"])
    assert place_of("0a", "u", []) != place_of("0b", "u", [])  # another rollout tries other users
    assert 0.0 <= place_of("0a", "\udc80", []) < 1.0


def test_a_shadow_answers_nobody() -> None:
    live = LiveRollout(rollout(mode=Mode.SHADOW, share=0.5))
    chosen = [live.choose(f"u{n}", ["x"]) for n in range(400)]
    assert {one.ref for one in chosen} == {"mood:2"}
    assert 0.4 < sum(bool(one.rollout) for one in chosen) / len(chosen) < 0.6
    assert live.wants_copies


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (None, (1, 0.0)),
        (Internal("x"), (1, 1.0)),
        (Crashed("x"), (1, 1.0)),
        (TimedOut("x"), (1, 1.0)),
        (TimedOut("x", cold_start=True), (0, 0.0)),
        (ValueError("x"), (1, 1.0)),
        (BadInput("x"), (0, 0.0)),
        (Busy("x"), (0, 0.0)),
        (Cancelled("x"), (0, 0.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_the_caller_are_not_the_versions(error: LlmosError | None, counts: tuple[int, float]) -> None:
    live = LiveRollout(rollout(guards=("errors<=0.1", "p90<=1s")))
    live.count_call("mood:3", error, 0.5)
    assert live.tallies.get(f"{CANDIDATE}.errors", Tally()) == Tally(*counts)
    assert live.tallies.get(f"{CANDIDATE}.slow@1", Tally()) == Tally(*counts)  # what fails was not in time
    assert f"{PROMOTED}.errors" not in live.tallies


def test_slow_calls_break_a_latency_guard_and_a_copys_time_is_not_counted() -> None:
    live = LiveRollout(rollout(guards=("p90<=100ms",)))
    live.count_call("mood:3", None, None)
    assert "candidate.slow@0.1" not in live.tallies
    found = None
    for _ in range(20):
        live.count_call("mood:3", None, 0.2)
        found = found or live.decision()
    assert found is not None
    assert found.verdict is RolloutVerdict.ROLL_BACK


def test_feedback_counts_for_the_version_that_it_is_of() -> None:
    live = LiveRollout(rollout(mode=Mode.AB))
    assert live.count_feedback(3, 1.0)
    assert live.count_feedback(2, 7.0)  # a score over 1 counts as 1
    assert not live.count_feedback(1, 0.0)
    assert live.tallies["candidate.feedback"] == live.tallies["promoted.feedback"] == Tally(1, 1.0)


@pytest.mark.parametrize(
    ("task", "one", "same", "other"),
    [
        ("classify", {"label": "a", "score": 0.9}, {"label": "a", "score": 0.6}, {"label": "b", "score": 0.9}),
        ("classify", {"labels": ["a", "b"]}, {"labels": ["b", "a"]}, {"labels": ["a"]}),
        (
            "tag",
            {"spans": [{"label": "PER", "start": 0, "end": 3, "score": 0.9}]},
            {"spans": [{"label": "PER", "start": 0, "end": 3, "score": 0.1}]},
            {"spans": []},
        ),
        ("answer", {"text": "14 days", "start": 2}, {"text": "14 days", "start": 9}, {"text": ""}),
        ("similarity", {"score": 0.5}, {"score": 0.55}, {"score": 0.8}),
        ("rerank", [{"index": 0, "score": 1}], [{"index": 0, "score": 0.2}], [{"index": 1, "score": 1}]),
        ("generate", {"text": "x", "finish_reason": "stop"}, {"text": "x", "finish_reason": "length"}, {"text": "y"}),
        ("chat", {"message": {"content": "x"}}, {"message": {"content": "x"}}, {"message": {"content": "y"}}),
        (
            "embed",
            {"dim": 1, "data": b"\x00\x00\x80\x3f"},
            {"dim": 1, "data": b"\x00\x00\x00\x40"},
            {"dim": 1, "data": b"\x00\x00\x80\xbf"},
        ),
    ],
)
def test_answers_agree_by_what_they_say(task: str, one: object, same: object, other: object) -> None:
    assert agreement(task, [one], [same]) == 1.0
    assert agreement(task, [one], [other]) == 0.0
    assert agreement(task, [one, one], [same, other]) == 0.5
    assert disagreeing(task, [one, one], [same, other]) == [1]
    assert agreement(task, [one], []) == 0.0
    assert Chunk(1).outputs == ()
