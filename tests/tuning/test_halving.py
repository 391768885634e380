"""Successive halving: who trains on, who waits and who returns, as a function of the journal alone."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from searches import number_only, played, steps

from llmos.abi.standard_error import standard_error
from llmos.abi.tuning import Budget
from llmos.tuning.halving import FACTOR, MOST_TOGETHER, decide, plan_of, progress, trials_wanted
from llmos.tuning.history import Advanced, Begun, Chosen, History, Reached, VersionMade, history_of

COUNTS = st.integers(1, 30)
SEEDS = st.integers(0, 10_000)


def noisy(seed: int, failing: float = 0.0):
    """Metrics that do not depend on the order in which they are asked for; some trials fail at some rung."""

    def answer(trial: int, rung: int) -> float | None:
        chance = random.Random(f"{seed}/{trial}/{rung}")
        return None if chance.random() < failing else round(chance.random(), 2)

    return answer


def test_rungs_are_powers_of_the_factor_and_end_with_the_whole_run():
    assert plan_of(Budget(trials=24)).shares == (1 / 16, 1 / 4, 1.0)
    assert plan_of(Budget(trials=4)).shares == (1 / 4, 1.0)
    assert plan_of(Budget(trials=2)).shares == (1.0,)
    assert plan_of(Budget(seconds=900.0)).shares == (1 / 16, 1 / 4, 1.0)


def test_the_best_quarter_of_a_rung_trains_on_and_the_best_at_the_end_is_made():
    plan = plan_of(Budget(trials=16))
    records = played(plan, lambda trial, rung: trial / 100)
    reached = Counter(record.rung for record in records if isinstance(record, Reached))
    assert reached == {0: 16, 1: 4, 2: 1}
    assert {record.trial for record in records if isinstance(record, Reached) and record.rung == 1} == {12, 13, 14, 15}
    assert isinstance(records[-1], VersionMade)
    assert records[-1].trial == 15


def made_by(plan, metrics: dict[int, float]) -> int | None:
    """The trial that is made where these reach every rung with these metrics, and the others with less."""
    made = history_of(played(plan, lambda trial, rung: metrics.get(trial, 0.1))).made
    return None if made is None else made.trial


def test_the_defaults_are_made_where_nothing_is_better_by_a_standard_error():
    assert made_by(plan_of(Budget(trials=24), 200), {0: 0.91, 10: 0.92}) == 0
    assert made_by(plan_of(Budget(trials=24), 200), {0: 0.88, 10: 0.92}) == 10
    assert made_by(plan_of(Budget(trials=24), 20_000), {0: 0.91, 10: 0.92}) == 10
    assert made_by(plan_of(Budget(trials=24)), {0: 0.91, 10: 0.92}) == 10, "how many rows there are is not known"


def test_the_defaults_train_on_among_others_that_are_not_clearly_better():
    metrics = dict.fromkeys(range(1, 16), 0.91) | {0: 0.90}
    records = played(plan_of(Budget(trials=16), 200), lambda trial, rung: metrics[trial])
    assert {one.trial for one in records if isinstance(one, Reached) and one.rung == 1} == {0, 1, 2, 3}
    assert {one.trial for one in records if isinstance(one, Reached) and one.rung == 2} == {0}


def test_defaults_that_fail_lead_nothing():
    plan = plan_of(Budget(trials=4), 200)
    records = played(plan, lambda trial, rung: None if (trial, rung) == (0, 1) else 0.9)
    assert records[-1] == VersionMade(1, "mood:1")


def test_a_trial_that_was_passed_over_returns_when_a_better_one_fails():
    plan = plan_of(Budget(trials=4))
    records = played(plan, lambda trial, rung: None if (trial, rung) == (3, 1) else trial / 10)
    assert [(one.trial, one.rung) for one in records if isinstance(one, Advanced)] == [(3, 1), (2, 1)]
    assert records[-1] == VersionMade(2, "mood:1")


def test_a_search_whose_trials_all_fail_ends_without_a_winner():
    records = played(plan_of(Budget(trials=5)), lambda trial, rung: None)
    assert not [one for one in records if isinstance(one, Chosen)]
    assert len(history_of(records).dropped) == 5


@settings(max_examples=30)
@given(COUNTS, SEEDS, st.sampled_from([0.0, 0.2]))
def test_a_search_ends_and_each_trial_reaches_each_rung_once_and_in_order(count, seed, failing):
    plan = plan_of(Budget(trials=count))
    records = played(plan, noisy(seed, failing))
    history = history_of(records)
    reached = [(one.trial, one.rung) for one in records if isinstance(one, Reached)]
    assert len(set(reached)) == len(reached)
    assert len(history.settings) == count
    for trial in history.settings:
        assert [one.rung for one in history.rungs_of(trial)] == list(range(len(history.rungs_of(trial))))
    for rung in range(1, len(plan.shares)):
        assert len(history.at(rung)) <= -(-count // FACTOR**rung)
    done, total = progress(plan, history)
    assert 0 < done <= total


@settings(max_examples=30)
@given(COUNTS, SEEDS, st.sampled_from([0.0, 0.2]))
def test_trials_that_train_together_reach_the_same_rungs(count, seed, failing):
    plan = plan_of(Budget(trials=count))
    apart, together = (
        history_of(played(plan, noisy(seed, failing), joins=joins))
        for joins in (lambda one, other: False, lambda one, other: True)
    )
    assert together.results == apart.results
    assert together.made == apart.made
    assert max(Counter(together.packs.values()).values(), default=1) <= MOST_TOGETHER


@settings(max_examples=30)
@given(COUNTS, SEEDS, st.sampled_from([0.0, 0.2]))
def test_the_winner_is_the_best_of_those_that_reached_the_end(count, seed, failing):
    plan = plan_of(Budget(trials=count))
    history = history_of(played(plan, noisy(seed, failing)))
    if history.made is not None:
        assert history.made.trial == history.at(len(plan.shares) - 1)[0].trial


@settings(max_examples=30)
@given(COUNTS, SEEDS, st.sampled_from([0.0, 0.2]), st.integers(1, 1_000))
def test_the_winner_is_the_best_or_the_defaults_within_its_standard_error(count, seed, failing, rows):
    plan = plan_of(Budget(trials=count), rows)
    history = history_of(played(plan, noisy(seed, failing)))
    if history.made is None:
        return
    last = history.at(len(plan.shares) - 1)
    metric = {one.trial: one.metric for one in last}[history.made.trial]
    is_near = last[0].metric - metric <= standard_error(last[0].metric, rows)
    assert history.made.trial == last[0].trial or (history.made.trial == 0 and is_near)


@settings(max_examples=30)
@given(COUNTS, SEEDS, st.sampled_from([0.0, 0.2]), st.data())
def test_a_search_goes_on_from_any_part_of_its_journal_to_the_same_end(count, seed, failing, data):
    plan, answer = plan_of(Budget(trials=count)), noisy(seed, failing)
    whole = played(plan, answer)
    cut = data.draw(st.integers(0, len(whole)))
    assert list(steps(plan, answer, whole[:cut])) == whole


@settings(max_examples=30)
@given(SEEDS, st.floats(60.0, 1500.0), st.floats(30.0, 200.0))
def test_a_search_by_time_keeps_to_it_unless_one_whole_trial_is_longer(seed, budget_s, whole_s):
    plan = plan_of(Budget(seconds=budget_s))
    history = history_of(played(plan, noisy(seed), seconds=whole_s))
    one_trial_s = whole_s + 2.0 * len(plan.shares)
    assert history.made is not None
    assert history.spent_s <= max(budget_s, one_trial_s) + 1e-6
    if budget_s > 6 * one_trial_s:
        assert history.spent_s > 0.5 * budget_s


@settings(max_examples=30)
@given(SEEDS, st.data())
def test_a_search_by_time_goes_on_from_its_journal_alone(seed, data):
    plan, answer = plan_of(Budget(seconds=600.0)), noisy(seed)
    whole = played(plan, answer, seconds=60.0)
    cut = data.draw(st.integers(0, len(whole)))
    assert list(steps(plan, answer, whole[:cut], seconds=60.0)) == whole


def test_a_search_by_time_begins_with_one_trial_and_learns_what_trials_cost():
    plan = plan_of(Budget(seconds=600.0))
    assert trials_wanted(plan, History()) == 1
    dear = history_of([Begun(0, {}), Reached(0, 0, 0.5, 500.0, 490.0)])
    assert trials_wanted(plan, dear) == 1
    cheap = history_of([Begun(0, {}), Reached(0, 0, 0.5, 3.0, 2.0)])
    assert trials_wanted(plan, cheap) == 2


def test_a_decision_whose_outcome_is_not_known_is_made_again():
    plan = plan_of(Budget(trials=4))
    begun = Begun(0, {"method": "full"})
    assert decide(plan, history_of([begun]), number_only) == (begun,)
