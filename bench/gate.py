"""The gate's error rates by simulation: models whose true difference is known, compared as the gate compares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import sqrt

import numpy as np
from scipy.stats import norm

from bench.learning_gate import learning_figures
from bench.record import Figure, Record, Target
from llmos.evaluation.statistics.comparison import ERROR, Comparison, Standing, compare, mcnemar
from llmos.evaluation.statistics.samples import Floats, Sums, Values, columns_of, ratio

ROWS = 3080
DIFFERENCE = 0.02
MARGIN = 0.02
FOUND = 0.8
DISAGREEMENTS = (0.04, 0.08, 0.12, 0.16, 0.19, 0.25)
TRIALS = {"quick": (2_000, 200), "full": (20_000, 2_000)}  # of accuracy, and of F1

Generator = np.random.Generator


def measure(*, mode: str) -> Record:
    """How often each standing is given, for accuracy and for the F1 of entities; equal models first."""
    shares, entities = TRIALS[mode]
    figures = []
    for rows in (50, 300, ROWS):
        for disagreement in (0.04, 0.2):
            note = f"{rows:,} rows, the models disagree on {disagreement:.0%}"
            found = rates(lambda chance, n=rows, d=disagreement: accuracies(chance, n, 0.0, d), shares)
            figures.append(_errors("accuracy of equal models called better", found, shares, note))
    for rows in (50, 300, 3000):
        found = rates(lambda chance, n=rows: entity_scores(chance, n), entities)
        figures.append(_errors("F1 of equal models called better", found, entities, f"{rows:,} sentences"))
    for disagreement in DISAGREEMENTS:
        found = rates(lambda chance, d=disagreement: accuracies(chance, ROWS, DIFFERENCE, d), shares)
        expected = power(ROWS, DIFFERENCE, disagreement)
        note = f"{ROWS:,} rows, the models disagree on {disagreement:.0%}; {expected:.1%} by the normal approximation"
        target = Target(FOUND) if expected > FOUND else None
        figures.append(Figure("a difference of 2 points called better", found["better"], target=target, note=note))
    found = rates(lambda chance: accuracies(chance, 1000, -MARGIN, 0.1), shares, margin=MARGIN)
    note = "1,000 rows, worse by the margin exactly, the models disagree on 10%"
    figures.append(_errors("a loss of the margin called not worse", found, shares, note, Standing.NOT_WORSE))
    figures += learning_figures(shares)
    return Record("gate", mode, {"accuracy_trials": shares, "f1_trials": entities, "error": ERROR}, tuple(figures))


def _errors(name: str, found: dict[str, float], trials: int, note: str, standing: Standing = Standing.BETTER) -> Figure:
    """An error rate with its target: at most 5 %, and as much more as so many trials leave open."""
    limit = ERROR + 2.58 * sqrt(ERROR * (1 - ERROR) / trials)
    return Figure(
        name, found[standing], target=Target(round(limit, 4), at_most=True), note=f"{note}, {trials:,} trials"
    )


def rates(
    one: Callable[[Generator], Comparison], trials: int, *, margin: float = 0.0, seed: int = 1
) -> dict[str, float]:
    """How often each standing is given, as a share of the trials."""
    chance = np.random.default_rng(seed)
    counted = Counter(str(one(chance).standing(margin)) for _ in range(trials))
    return {str(standing): counted[str(standing)] / trials for standing in Standing}


def accuracies(chance: Generator, rows: int, difference: float, disagreement: float) -> Comparison:
    """Two models that differ so much in accuracy, and of which one alone is right on so large a share of rows."""
    won, lost = (disagreement + difference) / 2, (disagreement - difference) / 2
    ours_only, theirs_only, _ = (int(n) for n in chance.multinomial(rows, [won, lost, 1 - disagreement]))
    counts = [ours_only, theirs_only, rows - ours_only - theirs_only]
    return mcnemar("accuracy", np.repeat([1.0, 0.0, 1.0], counts), np.repeat([0.0, 1.0, 1.0], counts), rows)


def entity_scores(chance: Generator, sentences: int) -> Comparison:
    """The F1 of two equal models on sentences with 1.6 entities on average. A hard sentence is hard for both; for an
    entity that only one of them finds, the other gives something else, or nothing."""
    true = chance.poisson(1.6, sentences)
    hardness = chance.beta(9, 1, sentences)  # the share of its entities that is found: 0.9 on average
    both = chance.binomial(true, 0.85 * hardness)
    ours = _finds(chance, true, both, 0.3 * hardness)
    theirs = _finds(chance, true, both, 0.3 * hardness)
    found = compare(ours, theirs, "f1")
    assert found is not None
    return found


def _finds(chance: Generator, true: Floats, both: Floats, share: Floats) -> Sums:
    left = true - both
    hits = both + chance.binomial(left, share)
    wrong = chance.binomial(true - hits, 0.6) + chance.poisson(0.05, len(true))
    return Sums(columns_of([hits, hits + wrong, true]), _f1, len(true))


def _f1(sums: Floats) -> Values:
    return {"f1": ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2])}


def power(rows: int, difference: float, disagreement: float) -> float:
    """How often McNemar's test finds a difference (Connor 1987), by the normal approximation."""
    spread = sqrt(disagreement - difference**2)
    return float(norm.cdf((difference * sqrt(rows) - norm.ppf(1 - ERROR) * sqrt(disagreement)) / spread))
