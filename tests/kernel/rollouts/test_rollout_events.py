"""Rollouts in the process table: what each event changes, and that a replay gives the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import Conflict, Fault, IllegalMove, NotFound
from llmos.abi.rollout import Rollout, Stage, Tally, plan_of
from llmos.abi.task import Family
from llmos.kernel import events as ev
from llmos.kernel.effects import SetPromoted
from llmos.kernel.journal import Journal
from llmos.kernel.loop import replay
from llmos.kernel.processes.process_runtime import Snapshot
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.rollouts.decision import RolloutVerdict
from llmos.testing.errors import fails_with

CANARY = Rollout("0a", "mood", 2, plan_of(Family.LABELS, 3), 1.0)
COUNTED = {"candidate.errors": Tally(100, 0.0)}


def started() -> ProcessTable:
    table = ProcessTable()
    table.apply(ev.RolloutStarted(1.0, CANARY))
    return table


def decided(verdict: RolloutVerdict, step: int = 0, rollout_id: str = "0a") -> ev.RolloutDecided:
    return ev.RolloutDecided(2.0, "mood", rollout_id, step, verdict, "why", {"low": 0.5}, COUNTED)


def test_a_started_rollout_is_under_way_with_a_note() -> None:
    found = started().rollouts["mood"]
    assert (found.stage, found.share) == (Stage.RUNNING, 0.1)
    assert [(one.what, one.at) for one in found.history] == [("started", 1.0)]


def test_a_name_has_one_rollout_at_a_time() -> None:
    table = started()
    with fails_with(Conflict, name="mood", candidate=3):
        table.check(ev.RolloutStarted(2.0, replace(CANARY, id="0b")))
    table.check(ev.RolloutStarted(2.0, replace(CANARY, name="other")))


def test_only_what_is_under_way_can_be_stopped() -> None:
    table = started()
    with fails_with(NotFound):
        table.check(ev.RolloutStopped(2.0, "other", "by hand"))
    table.check(ev.RolloutStopped(2.0, "mood", "by hand"))
    table.apply(decided(RolloutVerdict.PROMOTE))
    with fails_with(IllegalMove, name="mood"):
        table.check(ev.RolloutStopped(2.0, "mood", "by hand"))


def test_a_step_counts_its_calls_from_its_beginning() -> None:
    table = started()
    assert table.apply(decided(RolloutVerdict.STEP)) == []
    found = table.rollouts["mood"]
    assert (found.step, found.share, found.step_from, found.tallies) == (1, 0.25, 100, COUNTED)
    assert found.history[-1].figures == {"low": 0.5}


def test_a_decision_of_an_earlier_step_or_rollout_changes_nothing() -> None:
    table = started()
    table.apply(decided(RolloutVerdict.STEP))
    before = table.rollouts["mood"]
    table.apply(decided(RolloutVerdict.STEP))
    table.apply(decided(RolloutVerdict.ROLL_BACK, step=1, rollout_id="0b"))
    assert table.rollouts["mood"] is before


def test_a_hold_is_noted_once_and_a_step_ends_it() -> None:
    table = started()
    for _ in range(2):
        table.apply(decided(RolloutVerdict.HOLD))
    found = table.rollouts["mood"]
    assert found.stage is Stage.HOLDING
    assert [one.what for one in found.history] == ["started", "hold"]
    table.apply(decided(RolloutVerdict.STEP))
    assert table.rollouts["mood"].stage is Stage.RUNNING


@pytest.mark.parametrize(
    ("verdict", "stage"), [(RolloutVerdict.ROLL_BACK, Stage.ROLLED_BACK), (RolloutVerdict.FINISH, Stage.FINISHED)]
)
def test_an_end_is_kept_with_its_reason(verdict: RolloutVerdict, stage: Stage) -> None:
    table = started()
    assert table.apply(decided(verdict)) == []
    assert table.rollouts == {}
    (ended,) = table.ended_rollouts["mood"]
    assert (ended.stage, ended.ended_at, ended.history[-1].reason) == (stage, 2.0, "why")


def test_a_promotion_is_guarded_by_the_version_it_was_measured_against() -> None:
    table = started()
    (move,) = table.apply(decided(RolloutVerdict.PROMOTE))
    assert move == SetPromoted("mood", 3, "0a", guarded=True, against="mood:2")
    assert table.pending_commits.remaining_effects() == [move]  # a restart does it again
    assert table.rollouts["mood"].stage is Stage.PROMOTING
    table.apply(ev.PromotionChanged(3.0, "mood", 3, "0a"))
    assert table.rollouts == {}
    assert table.ended_rollouts["mood"][0].stage is Stage.DONE
    assert table.pending_commits.remaining_effects() == []


def test_a_refused_promotion_ends_it_with_the_reason() -> None:
    table = started()
    table.apply(decided(RolloutVerdict.PROMOTE))
    table.apply(ev.PromotionRefused(3.0, "mood", 3, "0a", Fault("conflict", "somebody was faster")))
    ended = table.ended_rollouts["mood"][0]
    assert (ended.stage, ended.history[-1].reason) == (Stage.REFUSED, "somebody was faster")


@pytest.mark.parametrize(("version", "is_over"), [(4, True), (3, True), (2, False)])
def test_somebody_elses_promotion_stops_it(version: int, is_over: bool) -> None:
    table = started()
    table.apply(ev.PromotionChanged(2.0, "mood", version, "by hand"))
    assert ("mood" not in table.rollouts) is is_over


def test_the_last_few_ended_ones_of_a_name_are_kept() -> None:
    table = started()
    for number in range(8):
        table.apply(ev.RolloutStopped(2.0, "mood", "by hand"))
        table.apply(ev.RolloutStarted(3.0, replace(CANARY, id=f"{number}")))
    assert [one.id for one in table.ended_rollouts["mood"]] == ["6", "5", "4", "3", "2"]


EVENTS = st.one_of(
    st.sampled_from(RolloutVerdict).flatmap(
        lambda verdict: st.builds(decided, st.just(verdict), st.integers(0, 3), st.sampled_from(["0a", "0b"]))
    ),
    st.builds(
        ev.RolloutCounted,
        st.just(2.0),
        st.just("mood"),
        st.sampled_from(["0a", "0b"]),
        st.just({"agreement": Tally(3, 1.5)}),
    ),
    st.builds(ev.PromotionChanged, st.just(4.0), st.just("mood"), st.integers(2, 4), st.sampled_from(["0a", "x"])),
    st.just(ev.RolloutStopped(5.0, "mood", "by hand")),
)


@given(st.lists(EVENTS, max_size=12))
def test_any_order_of_events_leaves_it_under_way_or_ended(events: list[ev.Event]) -> None:
    table = started()
    for event in events:
        table.apply(event)
    assert ("mood" in table.rollouts) != bool(table.ended_rollouts.get("mood"))
    assert all(not one.is_ended for one in table.rollouts.values())
    assert all(one.is_ended and one.ended_at is not None for one in table.ended_rollouts.get("mood", ()))
    read = msgspec.json.decode(msgspec.json.encode(table.snapshot()), type=Snapshot)
    assert (read.rollouts, read.ended_rollouts) == (table.rollouts, table.ended_rollouts)


def test_the_journal_gives_it_back(tmp_path: Path) -> None:
    table, journal = ProcessTable(), Journal(tmp_path / "journal.db")
    stepped = decided(RolloutVerdict.STEP)
    for event in (ev.RolloutStarted(1.0, CANARY), stepped, ev.RolloutCounted(3.0, "mood", "0a", {"x": Tally(2, 1.0)})):
        journal.append(event)
        table.apply(event)
    journal.close()
    again, journal = ProcessTable(), Journal(tmp_path / "journal.db")
    replay(journal, again)
    journal.close()
    assert again.rollouts == table.rollouts
    assert again.rollouts["mood"].tallies == {"x": Tally(2, 1.0)}
