"""Guards and plans of rollouts as they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.rollout import DEFAULT_STEPS, Mode, Rollout, Stage, Tally, plan_of
from llmos.abi.rollout_guard import GuardMeasure, RolloutGuard, check_guards, default_guards, parse_guard
from llmos.abi.task import Family
from llmos.testing.errors import fails_with


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        ("errors<=0.02", RolloutGuard("errors<=0.02", GuardMeasure.ERRORS, True, 0.02)),
        ("errors <= promoted + 0.02", RolloutGuard("errors <= promoted + 0.02", GuardMeasure.ERRORS, True, 0.02, True)),
        ("errors<=promoted", RolloutGuard("errors<=promoted", GuardMeasure.ERRORS, True, 0.0, True)),
        ("p95<=200ms", RolloutGuard("p95<=200ms", GuardMeasure.SLOW, True, 0.05, limit_s=0.2)),
        ("p99.5<=2s", RolloutGuard("p99.5<=2s", GuardMeasure.SLOW, True, 0.005, limit_s=2.0)),
        ("agreement>=0.9", RolloutGuard("agreement>=0.9", GuardMeasure.AGREEMENT, False, 0.9)),
        ("feedback>=promoted-0.05", RolloutGuard("feedback>=promoted-0.05", GuardMeasure.FEEDBACK, False, -0.05, True)),
        ("feedback>=.7", RolloutGuard("feedback>=.7", GuardMeasure.FEEDBACK, False, 0.7)),
    ],
)
def test_a_guard_is_read(text: str, guard: RolloutGuard) -> None:
    assert parse_guard(text) == guard


@pytest.mark.parametrize(
    "text",
    [
        *("", "errors", "errors>=0.1", "agreement<=0.9", "agreement>=promoted", "errors<=1.5", "errors<=20ms"),
        *("p95>=200ms", "p95<=0.2", "p95<=promoted", "p0<=20ms", "p95<=0ms", "speed>=3", "errors<=promoted+1.5"),
        *("feedback>=nan", "errors<=-0.1", "errors<=0.1 or so", "p100<=3s"),
    ],
)
def test_what_is_no_guard_is_refused_with_its_field(text: str) -> None:
    with fails_with(BadInput, key="guards"):
        parse_guard(text)


@given(st.text(max_size=40))
def test_any_text_is_a_guard_or_bad_input(text: str) -> None:
    try:
        found = parse_guard(text)
    except BadInput:
        return
    assert found.text == text.strip()


def test_the_same_guard_twice_is_refused() -> None:
    with fails_with(BadInput, key="guards"):
        check_guards(["errors<=0.1", "errors<=0.1"])
    with fails_with(BadInput, key="guards"):
        check_guards([f"errors<=0.{n}" for n in range(1, 10)])


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("family", Family)
def test_every_family_has_default_guards_that_fit_its_mode(mode: Mode, family: Family) -> None:
    plan = plan_of(family, 3, mode=mode)
    assert plan.guards == default_guards(family, mode)
    assert plan.promote is (mode is not Mode.SHADOW)


def test_a_canary_rises_from_its_first_share() -> None:
    assert plan_of(Family.LABELS, 3).steps == DEFAULT_STEPS
    assert plan_of(Family.LABELS, 3, share=0.3).steps == (0.3, 0.5, 1.0)
    assert plan_of(Family.LABELS, 3, steps=(0.2, 0.9)).steps == (0.2, 0.9)
    assert plan_of(Family.LABELS, 3, mode=Mode.AB).steps == (0.5,)
    assert plan_of(Family.LABELS, 3, mode=Mode.SHADOW).steps == (1.0,)


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ({"steps": (0.5, 0.5)}, "steps"),
        ({"steps": ()}, "steps"),
        ({"steps": (0.0, 1.0)}, "steps"),
        ({"share": 1.5}, "steps"),
        ({"share": 1.0, "mode": Mode.AB}, "share"),
        ({"steps": (0.1, 0.2), "mode": Mode.AB}, "steps"),
        ({"calls": 0}, "calls"),
        ({"alpha": 0.0}, "alpha"),
        ({"guards": ()}, "guards"),
        ({"guards": ("p95<=3s",), "mode": Mode.SHADOW}, "guards"),
        ({"guards": ("feedback>=0.5",), "mode": Mode.SHADOW}, "guards"),
        ({"promote": True, "mode": Mode.SHADOW}, "promote"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(asked: dict[str, object], key: str) -> None:
    with fails_with(BadInput, key=key):
        plan_of(Family.LABELS, 3, **asked)  # type: ignore[arg-type]  # of several types


def test_a_version_knows_its_part() -> None:
    rollout = Rollout("id", "mood", 2, plan_of(Family.LABELS, 3), 0.0, tallies={"candidate.errors": Tally(7, 1.0)})
    assert rollout.part_of(3) == "candidate, canary 10%"
    assert rollout.part_of(2) == "promoted, beside mood:3"
    assert rollout.part_of(1) == ""
    assert rollout.candidate_calls == 7
    assert not rollout.is_ended
    assert Rollout("id", "mood", 2, plan_of(Family.LABELS, 3), 0.0, stage=Stage.STOPPED).is_ended
    assert Tally().plus(0.5).plus(1.0).mean == 0.75
