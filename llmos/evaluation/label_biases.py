"""Temperature and one bias a label: fitted on validation rows, and taken only where rows not seen gain by it.

This is vector scaling (Guo et al. 2017, arXiv:1706.04599) with one sharpness for all labels, and the biases held near 0
by a penalty on their squares. A temperature alone cannot mend a model that gives some labels too often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmos.evaluation.calibration import (
    CONFIDENCE,
    FOLDS,
    SEED,
    SHARPNESS_RANGE,
    Flags,
    Floats,
    Indices,
    chance_of_gain,
    fit_temperature,
    log_shares,
    temper,
)

PENALTIES = (256.0, 64.0, 16.0, 4.0)  # on the squares, the strictest first
INNER_FOLDS = 5  # that choose the penalty, inside of each part that tests the whole
LEAST_A_LABEL = 20  # rows for each label on average; fewer say too little of a bias
STEPS = 50
HALVINGS = 30
CLOSE = 1e-10  # a gain of loss a row that is none


@dataclass(frozen=True, slots=True)
class LabelBiases:
    """What was fitted on all rows, and what it is worth on rows that it has not seen.

    `biases`: what is added to each logit once it is divided by the temperature, [labels]. `unseen`: the probabilities
    of each row by a fit on other rows, [n, labels]. `losses`: the mean negative log likelihood a row, each of rows not
    seen, of no calibration, of a temperature and of this. `p`: how often chance alone would gain as much over the
    better of the other two.
    """

    temperature: float
    biases: Floats
    unseen: Floats
    losses: tuple[float, float, float]
    p: float

    @property
    def is_shown(self) -> bool:
        """Whether it is better than what would be served without it, beyond chance."""
        return self.p < 1.0 - CONFIDENCE and self.losses[2] < min(self.losses[:2])


def has_enough_rows(rows: int, labels: int) -> bool:
    """Whether so many rows say something of a bias of each label."""
    return labels > 1 and rows >= LEAST_A_LABEL * labels


def cross_fit_biases(shares: Floats, true: Indices) -> LabelBiases:
    """Fit temperature and biases on all rows, and test by cross-fitting whether they are worth anything.

    As `cross_fit_temperature`: each of ten parts is scored by a fit on the nine others. The penalty is chosen inside of
    those nine, so that the test has no part in it. The test is against the better of a temperature and none.
    """
    rows = np.arange(len(true))
    unseen, tempered = np.empty_like(shares), np.empty_like(shares)
    for is_out in _parts(len(true), FOLDS):
        temperature, biases = fit_biases(shares[~is_out], true[~is_out])
        unseen[is_out] = temper(shares[is_out], temperature, biases)
        tempered[is_out] = temper(shares[is_out], fit_temperature(shares[~is_out], true[~is_out]))
    logs = [log_shares(one)[rows, true] for one in (shares, tempered, unseen)]
    none, alone, both = (-float(one.mean()) for one in logs)
    p = chance_of_gain(logs[2] - logs[0 if none <= alone else 1])
    temperature, biases = fit_biases(shares, true)
    return LabelBiases(temperature, biases, unseen, (none, alone, both), p)


def fit_biases(shares: Floats, true: Indices) -> tuple[float, Floats]:
    """Temperature and biases, with the penalty that has the least loss on rows not seen: the strictest of equals."""
    losses = np.zeros(len(PENALTIES))
    for is_out in _parts(len(true), INNER_FOLDS):
        start = None
        there = np.arange(int(is_out.sum())), true[is_out]
        for i, penalty in enumerate(PENALTIES):
            start = fit_penalized(shares[~is_out], true[~is_out], penalty, start)
            losses[i] -= log_shares(temper(shares[is_out], *start))[there].sum()
    return fit_penalized(shares, true, PENALTIES[int(losses.argmin())])


def fit_penalized(
    shares: Floats, true: Indices, penalty: float, start: tuple[float, Floats] | None = None
) -> tuple[float, Floats]:
    """Temperature and biases with the least negative log likelihood plus half the penalty times the biases' squares.

    Both together are convex in sharpness (1 / temperature) and biases, so Newton's steps, halved until they gain, find
    the one minimum, from `start` or from no bias. One row of unknown label is added, as in `fit_temperature`.
    """
    count, labels = shares.shape
    logs = log_shares(shares)
    aim = np.full_like(shares, 1.0 / (labels * (count + 1)))
    aim[np.arange(count), true] += 1.0 - 1.0 / (count + 1)
    temperature, biases = (fit_temperature(shares, true), np.zeros(labels)) if start is None else start
    at = np.concatenate(([1.0 / temperature], biases))
    weights = np.concatenate(([0.0], np.full(labels, penalty / count)))
    loss = _loss(logs, aim, weights, at)
    for _ in range(STEPS):
        step = _newton_step(shares, logs, aim, weights, at)
        for _ in range(HALVINGS):
            after = at - step
            after[0] = np.clip(after[0], *SHARPNESS_RANGE)
            its = _loss(logs, aim, weights, after)
            if its < loss:
                break
            step = step / 2
        else:
            break
        gain, at, loss = loss - its, after, its
        if gain < CLOSE:
            break
    return 1.0 / float(at[0]), at[1:]


def _loss(logs: Floats, aim: Floats, weights: Floats, at: Floats) -> float:
    logits = logs * at[0] + at[1:]
    peak = logits.max(-1)
    totals = peak + np.log(np.exp(logits - peak[:, None]).sum(-1))
    return float((totals - (aim * logits).sum(-1)).mean() + (weights * at**2).sum() / 2)


def _newton_step(shares: Floats, logs: Floats, aim: Floats, weights: Floats, at: Floats) -> Floats:
    """What a step subtracts from sharpness and biases, [1 + labels]."""
    count = len(logs)
    given = temper(shares, 1.0 / at[0], at[1:])
    expected = (given * logs).sum(-1, keepdims=True)
    slope = np.concatenate(([((given - aim) * logs).sum() / count], (given - aim).mean(0))) + weights * at
    bend = np.empty((len(at), len(at)))
    bend[0, 0] = (given * (logs - expected) ** 2).sum() / count
    bend[0, 1:] = bend[1:, 0] = (given * (logs - expected)).mean(0)
    bend[1:, 1:] = np.diag(given.mean(0)) - given.T @ given / count
    return np.asarray(np.linalg.solve(bend + np.diag(weights + CLOSE), slope), dtype=np.float64)


def _parts(count: int, folds: int) -> Iterator[Flags]:
    """Which rows are in each part, drawn as `cross_fit_temperature` draws them."""
    numbers = np.random.default_rng(SEED).permutation(count) % folds
    return (numbers == part for part in range(min(folds, count)))
