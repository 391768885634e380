"""How often learning from feedback promotes a worse version, by simulation: one step, and whole loops of steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.record import Figure
from llmos.abi.feedback import HELD_OUT_SHARE
from llmos.evaluation.statistics.comparison import ERROR

ROWS = (100, 228, 500, 1_000, 3_080)
LOSSES = (0.0, 0.005, 0.01, 0.02)
DISAGREEMENT = 0.1  # the share of rows that one version alone has right
TOLD = (0, 600, 1_200, 2_100, 3_000, 4_200, 9_000)  # labels, and Banking77's accuracy with them (docs/log.md)
ACCURACY = (0.8276, 0.8500, 0.8640, 0.8821, 0.8958, 0.9058, 0.9247)
LUCK = 0.005  # the deviation of a training's accuracy from that curve, by its seed
STEPS, EVERY, OLD_ROWS = 14, 300, 100

Generator = np.random.Generator
Rule = Callable[[int, int], bool]


def learning_figures(trials: int) -> list[Figure]:
    """For both gates: how often a version that is worse by so much is promoted, and what becomes of a loop."""
    from scipy.stats import binom

    def is_better(won: int, lost: int) -> bool:
        """As the mid-p McNemar test has it."""
        either = won + lost
        return bool(binom.sf(won, either, 0.5) + binom.pmf(won, either, 0.5) / 2 < ERROR and won > lost)

    rules: dict[str, Rule] = {"at-least-as-good": lambda won, lost: won >= lost, "better": is_better}
    found = []
    for word, rule in rules.items():
        for rows in ROWS:
            for loss in LOSSES:
                chance = np.random.default_rng(1)
                share = sum(rule(*_discordant(chance, rows, -loss)) for _ in range(trials)) / trials
                note = f"{rows:,} rows, worse by {100 * loss:g} points, {trials:,} trials"
                found.append(Figure(f"promoted by {word}", share, note=note))
        found += _loop_figures(word, rule, trials // 4)
    return found


def _loop_figures(word: str, rule: Rule, loops: int) -> list[Figure]:
    chance = np.random.default_rng(1)
    ends = [_loop(chance, rule) for _ in range(loops)]
    note = f"{STEPS} steps of {EVERY} rows, {OLD_ROWS} old test rows, {loops:,} loops"
    worse = sum(losses > 0 for _, losses in ends) / loops
    return [
        Figure(f"loops by {word} that promote a worse version", worse, note=note),
        Figure(f"accuracy after a loop by {word}", sum(accuracy for accuracy, _ in ends) / loops, note=note),
    ]


def _loop(chance: Generator, rule: Rule) -> tuple[float, int]:
    """The true accuracy of the version that is promoted at the end, and how many worse ones were on the way.

    Each step draws its rows anew, where a real loop keeps those that it has.
    """
    present, worse = ACCURACY[0], 0
    for step in range(1, STEPS + 1):
        learned = (1 - HELD_OUT_SHARE) * EVERY * step
        candidate = float(np.interp(learned, TOLD, ACCURACY)) + chance.normal(0, LUCK)
        rows = int(OLD_ROWS + HELD_OUT_SHARE * EVERY * step)
        if rule(*_discordant(chance, rows, candidate - present)):
            worse += candidate < present
            present = candidate
    return present, worse


def _discordant(chance: Generator, rows: int, difference: float) -> tuple[int, int]:
    """On how many rows only the candidate is right, and on how many only the promoted version."""
    either = max(DISAGREEMENT, abs(difference))
    shares = [(either + difference) / 2, (either - difference) / 2, 1 - either]
    won, lost, _ = chance.multinomial(rows, shares)
    return int(won), int(lost)
