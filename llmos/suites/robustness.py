"""The robustness curve: how many answers stay the same and how many stay right, as more words of a text are noisy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.data.noise import NOISES
from llmos.suites.families import suite_family
from llmos.suites.form import Form
from llmos.suites.plan import edits_of
from llmos.suites.suite import SEED, TextChange
from llmos.suites.templates import seeded_rng

LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
KINDS = ("typo", "keyboard", "ocr")
MOST_ROWS = 300
Z = 1.96  # of a normal distribution: 95 %


@dataclass(frozen=True, slots=True)
class NoisyRow:
    """One input, and what its answer should be, where that is known."""

    form: Form
    expectation: Any = None  # of the family's own type


@dataclass(frozen=True, slots=True)
class NoisePoint:
    """One noise at one level: the share of answers that are those of the clean texts, and of right ones, of `rows`.

    The intervals are Wilson's, at 95 % (Wilson 1927). `changed`: how many of the texts the noise has changed.
    """

    noise: str
    level: float
    rows: int
    changed: int
    agreement: float
    agreement_interval: tuple[float, float]
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class RobustnessPlan:
    """What to ask: at each noise and level the number of every row's input, and the edits that made it."""

    task: str
    rows: tuple[NoisyRow, ...]
    inputs: tuple[Json, ...]
    points: Mapping[tuple[str, float], tuple[tuple[int, Any], ...]]


def plan_robustness(
    task: str,
    rows: Sequence[NoisyRow],
    noises: Sequence[str] = KINDS,
    levels: Sequence[float] = LEVELS,
    seed: int = SEED,
    most: int = MOST_ROWS,
) -> RobustnessPlan:
    """The plan for at most so many of these rows, by chance where there are more; the same for the same rows."""
    for noise in noises:
        if noise not in NOISES:
            raise BadInput(f"There is no noise {noise!r}. There are: {', '.join(NOISES)}", value=noise)
    if not rows:
        raise BadInput("There is no text to make noisy. Give rows, or a suite with texts")
    chosen = sorted(seeded_rng(seed, "rows").sample(range(len(rows)), min(most, len(rows))))
    kept = tuple(rows[i] for i in chosen)
    inputs: list[Json] = [row.form.input for row in kept]
    field = suite_family(task).noisy_field
    points: dict[tuple[str, float], tuple[tuple[int, Any], ...]] = {}
    for noise in noises:
        for level in levels:
            at: list[tuple[int, Any]] = []
            for i, row in enumerate(kept):
                # One generator for all levels: what is changed at a low one is mostly changed at a higher one as well.
                rng = seeded_rng(seed, noise, i)
                edits = edits_of(TextChange(noise, 0, noise, level), row.form, field, {}, rng, least=0) if level else {}
                if edits:
                    inputs.append(row.form.with_edits(edits).input)
                at.append((len(inputs) - 1 if edits else i, edits))
            points[noise, level] = tuple(at)
    return RobustnessPlan(task, kept, tuple(inputs), points)


def judge_robustness(plan: RobustnessPlan, outputs: Sequence[Json]) -> tuple[NoisePoint, ...]:
    """The curve by these outputs of the plan's inputs."""
    family = suite_family(plan.task)
    answers = [family.read_answer(output) for output in outputs]
    found = []
    for (noise, level), at in plan.points.items():
        same = sum(family.is_same(answers[i], answers[n], edits) for i, (n, edits) in enumerate(at))
        judged = [
            family.is_met(family.move_expectation(row.expectation, edits), answers[n])
            for row, (n, edits) in zip(plan.rows, at, strict=True)
            if row.expectation is not None
        ]
        size, changed = len(at), sum(bool(edits) for _, edits in at)
        right = sum(judged)
        found.append(
            NoisePoint(
                noise,
                level,
                size,
                changed,
                same / size,
                interval(same, size),
                right / len(judged) if judged else None,
                interval(right, len(judged)) if judged else None,
            )
        )
    return tuple(found)


def interval(right: int, size: int) -> tuple[float, float]:
    """Wilson's interval of a share at 95 %."""
    share, weight = right / size, Z * Z / size
    middle = (share + weight / 2) / (1 + weight)
    half = Z * sqrt(share * (1 - share) / size + weight / (4 * size)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)
