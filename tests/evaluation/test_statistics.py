"""Intervals and comparisons beside scipy's, on samples of every family beside the metrics that are judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from llmos.data.row import LabelRow, PairRow, SpanRow, TagRow, TextRow
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.pairs import PairPrediction
from llmos.evaluation.families.spans import SpanPrediction
from llmos.evaluation.families.tags import TagPrediction
from llmos.evaluation.families.text import TextPrediction
from llmos.evaluation.metrics import judge, sample_of
from llmos.evaluation.statistics.comparison import Standing, compare, mcnemar, paired_bootstrap, tango
from llmos.evaluation.statistics.intervals import draws, intervals, wilson
from llmos.evaluation.statistics.samples import FunctionOfRows, Sums, columns_of, ratio
from llmos.tasks import Settings

pytestmark = pytest.mark.torch
LABELS = ("a", "b", "c", "d")
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
WORDS = ["the", "red", "fox", "ran", "home", "over", "a", "wet", "hill"]
COUNTS = {"queries", "answered_rows"}  # figures of an evaluation that are no metrics


def chance(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def labelled(seed: int, count: int = 60, *, is_multi: bool = False):
    random, options = chance(seed), {"multi_label": is_multi}
    shares = random.dirichlet([0.4] * len(LABELS), count).astype(np.float32)
    true = [tuple(label for label in LABELS if random.random() < 0.4) for _ in range(count)]
    rows = [
        LabelRow({"text": str(i)}, true[i] if is_multi else (LABELS[random.integers(4)],), "f", i, is_multi)
        for i in range(count)
    ]
    return "classify", rows, [LabelPrediction(one) for one in shares], Settings(LABELS, options)


def many_labelled(seed: int):
    return labelled(seed, is_multi=True)


def tagged(seed: int, count: int = 40):
    random = chance(seed)
    rows, predicted = [], []
    for i in range(count):
        size = int(random.integers(1, 8))
        true = random.integers(5, size=size)
        given = np.where(random.random(size) < 0.7, true, random.integers(5, size=size))
        rows.append(TagRow({"tokens": ["w"] * size}, tuple(TAGS[k] for k in true), "f", i))
        predicted.append(TagPrediction(np.eye(5, dtype=np.float32)[given]))
    return "tag", rows, predicted, Settings(TAGS)


def sentence(random: np.random.Generator) -> str:
    return " ".join(random.choice(WORDS, int(random.integers(0, 7))))


def asked(seed: int, count: int = 40):
    random = chance(seed)
    rows, predicted = [], []
    for i in range(count):
        answers = () if random.random() < 0.3 else (sentence(random) or "fox",)
        rows.append(SpanRow({"question": str(i), "passage": f"p{i // 3}"}, answers, (0,) * len(answers), "f", i))
        predicted.append(SpanPrediction(sentence(random), 0.5, 0.5))
    return "answer", rows, predicted, Settings(())


def ranked(seed: int, count: int = 60):
    random = chance(seed)
    rows = [
        PairRow({"query": f"q{i // 4}", "documents": [str(i)]}, float(random.integers(0, 2)), "f", i)
        for i in range(count)
    ]
    return "rerank", rows, [PairPrediction(float(random.random())) for _ in rows], Settings(())


def similar(seed: int, count: int = 50):
    random = chance(seed)
    rows = [PairRow({"text": "x", "other": "y"}, float(random.integers(0, 6)), "f", i) for i in range(count)]
    given = [PairPrediction(float(np.round(row.score / 5 + random.normal() / 3, 1))) for row in rows]
    return "similarity", rows, given, Settings(())


def generated(task: str):
    def made(seed: int, count: int = 30):
        random = chance(seed)
        rows = [TextRow({"text": "x"}, sentence(random) or "fox", "f", i) for i in range(count)]
        answers = [sentence(random) if i % 3 else None for i in range(count)]
        costs = [(float(random.gamma(5)), int(random.integers(1, 9))) for _ in rows]
        return task, rows, [TextPrediction(*cost, one) for cost, one in zip(costs, answers, strict=True)], Settings(())

    return made


FAMILIES = {
    "one label": labelled,
    "many labels": many_labelled,
    "tags": tagged,
    "spans": asked,
    "queries": ranked,
    "similarity": similar,
    "generate": generated("generate"),
    "summarize": generated("summarize"),
    "translate": generated("translate"),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_sample_gives_the_metrics_that_are_judged_and_so_on_resampled_rows(family, seed: int):
    task, rows, predicted, options = family(seed)
    sample = sample_of(task, rows, predicted, options)
    judged = {name: x for name, x in judge(task, rows, predicted, options).metrics.items() if name not in COUNTS}
    found = sample.values(np.ones((1, sample.units)))
    assert {name: float(values[0]) for name, values in found.items()} == pytest.approx(judged, abs=1e-9)
    if sample.units != len(rows):
        return
    places = chance(seed).integers(len(rows), size=len(rows))
    drawn = [rows[i] for i in places], [predicted[i] for i in places]
    again = judge(task, *drawn, options).metrics
    counts = np.bincount(places, minlength=len(rows)).astype(float)
    on_resample = sample.values(counts[None, :])
    for name in judged:
        assert on_resample[name][0] == pytest.approx(again[name], abs=1e-9), name


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_metric_of_every_family_has_an_interval_around_it_and_the_same_again(family):
    task, rows, predicted, options = family(7)
    sample = sample_of(task, rows, predicted, options)
    found = intervals(sample)
    judged = judge(task, rows, predicted, options).metrics
    assert found.keys() == judged.keys() - COUNTS
    for name, interval in found.items():
        assert interval.low <= judged[name] <= interval.high, name
        assert interval.low < interval.high
    assert intervals(sample_of(*family(7))) == found


def test_a_query_s_documents_and_a_passage_s_questions_stay_together():
    assert sample_of(*ranked(1)).units == 15
    assert sample_of(*asked(1)).units == 14


def test_the_jackknife_leaves_out_each_unit_in_turn():
    task, rows, predicted, options = labelled(3, 12)
    left = sample_of(task, rows, predicted, options).without_each()
    for i in range(12):
        without = judge(task, rows[:i] + rows[i + 1 :], predicted[:i] + predicted[i + 1 :], options).metrics
        assert left["accuracy"][i] == pytest.approx(without["accuracy"])


def test_intervals_are_those_of_scipy_on_the_same_numbers():
    values = chance(4).gamma(2.0, size=80)
    mean = Sums(columns_of([values, np.ones(80)]), lambda sums: {"mean": ratio(sums[:, 0], sums[:, 1])}, 80)
    ours = intervals(mean)["mean"]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=chance(0)).confidence_interval
    assert ours.method == "BCa bootstrap"
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * values.std())


@given(st.integers(1, 400).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_interval_of_a_share_is_scipy_s(pair: tuple[int, int]):
    theirs = stats.binomtest(*pair).proportion_ci(method="wilson")
    ours = wilson(*pair)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_a_metric_of_units_that_are_all_right_is_not_certain():
    perfect = Sums(columns_of([np.ones(40), np.ones(40)]), lambda sums: {"f1": ratio(sums[:, 0], sums[:, 1])}, 40)
    found = intervals(perfect)["f1"]
    theirs = stats.binomtest(40, 40).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("units", [1, 3, 700])
def test_a_resample_has_as_many_units_as_there_are(units: int):
    drawn = np.concatenate(list(draws(units)))
    assert drawn.shape == (2000, units)
    assert set(drawn.sum(axis=1)) == {units}


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 50))
def test_mcnemar_is_between_the_exact_tests_of_scipy(won: int, lost: int, same: int):
    if not won + lost + same:
        return
    ours = np.repeat([1.0, 0.0, 1.0], [won, lost, same])
    theirs = np.repeat([0.0, 1.0, 1.0], [won, lost, same])
    found = mcnemar("accuracy", ours, theirs, len(ours))
    if won + lost:
        exact = stats.binomtest(won, won + lost, alternative="greater").pvalue
        tie = stats.binom.pmf(won, won + lost, 0.5)
        assert found.p_better == pytest.approx(exact - tie / 2, abs=1e-12)
        assert found.p_better + found.p_worse == pytest.approx(1.0)
    assert found.low - 1e-9 <= found.difference <= found.high + 1e-9
    assert (found.low, found.high) == pytest.approx(tuple(-x for x in reversed(tango(lost, won, len(ours)))), abs=1e-6)


@pytest.mark.parametrize(("won", "lost", "count"), [(12, 2, 50), (5, 0, 44), (20, 30, 400), (1, 1, 9)])
def test_at_each_end_of_tango_s_interval_the_score_test_has_its_level(won: int, lost: int, count: int):
    """The share of lost pairs under each end's difference is found here by maximizing the likelihood itself."""
    for delta, z in zip(tango(won, lost, count, error=0.025), (1.959964, -1.959964), strict=True):

        def against(share: float, delta: float = delta) -> float:
            parts = (won, share + delta), (lost, share), (count - won - lost, 1 - 2 * share - delta)
            return -sum(n * np.log(max(p, 1e-300)) for n, p in parts)

        bounds = (max(0.0, -delta), (1 - delta) / 2)
        share = optimize.minimize_scalar(against, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
        score = (won - lost - count * delta) / np.sqrt(count * (2 * share + delta * (1 - delta)))
        assert score == pytest.approx(z, abs=1e-3)


def test_two_models_that_say_the_same_cannot_be_told_apart_and_may_be_not_worse():
    for family in (labelled, tagged, ranked):
        one = sample_of(*family(5))
        found = compare(one, one, "accuracy")
        assert found is not None
        assert (found.difference, found.standing(), found.more_rows()) == (0.0, Standing.CANNOT_TELL, None)
        assert found.low < 0 < found.high
        assert found.standing(margin=0.3) is Standing.NOT_WORSE


def test_a_few_units_that_differ_tell_nothing_however_they_resample():
    def f1(right: int) -> Sums:
        hits = np.repeat([1.0, 0.0], [right, 100 - right])
        return Sums(columns_of([hits, np.ones(100)]), lambda sums: {"f1": ratio(sums[:, 0], sums[:, 1])}, 100)

    few = compare(f1(54), f1(50), "f1")
    many = compare(f1(60), f1(50), "f1")
    assert few is not None
    assert many is not None
    assert (few.standing(), many.standing()) == (Standing.CANNOT_TELL, Standing.BETTER)


def test_a_paired_bootstrap_agrees_with_student_s_t_test():
    gaps = chance(6).normal(0.03, 0.1, size=25)
    sample = Sums(columns_of([gaps, np.ones(25)]), lambda sums: {"gap": ratio(sums[:, 0], sums[:, 1])}, 25)
    (values,) = [np.concatenate([sample.values(weights)["gap"] for weights in draws(25)])]
    found = paired_bootstrap("gap", float(gaps.mean()), 0.0, values, 25, 25)
    theirs = stats.ttest_1samp(gaps, 0.0, alternative="greater")
    assert found.p_better == pytest.approx(theirs.pvalue, abs=0.03)
    assert found.low == pytest.approx(theirs.confidence_interval(0.9).low, abs=0.02)


def test_as_many_more_rows_would_decide_as_are_said():
    ours, theirs = np.repeat([1.0, 0.0, 1.0], [30, 20, 950]), np.repeat([0.0, 1.0, 1.0], [30, 20, 950])
    found = mcnemar("accuracy", ours, theirs, 1000)
    more = found.more_rows()
    assert found.standing() is Standing.CANNOT_TELL
    assert more is not None
    share = (stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) ** 2 * (0.05 - 0.0001) / 0.01**2
    assert more == pytest.approx(share - 1000, abs=2)
    assert found.more_rows(margin=0.02) < more


@settings(max_examples=20)
@given(st.integers(2, 40))
def test_a_task_s_own_metric_is_resampled_by_calling_it(count: int):
    values = chance(count).random(count)
    own = FunctionOfRows(lambda places: {"own": float(np.mean(values[places]))}, count)
    interval = intervals(own)["own"]
    assert interval.low <= values.mean() <= interval.high


def test_an_own_metric_that_fails_on_a_resample_is_left_out_there():
    def least(places: list[int]) -> dict[str, float]:
        return {"own": 1 / (3 in places)}

    assert len(FunctionOfRows(least, 4).values(np.concatenate(list(draws(4))))["own"]) < 200
