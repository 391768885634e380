"""How a model learns from a teacher: by whom, how far it trusts it, and how soft the teacher's answers are."""

from __future__ import annotations

from dataclasses import dataclass

TEACHER_WEIGHT = 0.7
TEACHER_TEMPERATURE = 2.0
LEAST_TEMPERATURE, MOST_TEMPERATURE = 1.0, 20.0


@dataclass(frozen=True, slots=True)
class Distillation:
    """Distillation by soft targets (Hinton et al. 2015, arXiv:1503.02531).

    `weight` is the share of the teacher in the loss of a labelled row; in that of a row without a label it is all.
    """

    teacher: str = ""  # a model of the store
    weight: float = TEACHER_WEIGHT
    temperature: float = TEACHER_TEMPERATURE
