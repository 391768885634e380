"""Whose turn it is: calls in the order they came, but for those that ask for much at once, or are in no hurry."""

from __future__ import annotations

from collections.abc import Iterable

from llmos.abi.process import Class

TURN = 32  # inputs of a call for one turn: those after them wait for another call's first ones
SELDOM = 8  # a step for those of a lower class, while a higher one has work
BEHIND = {Class.INTERACTIVE: 0, Class.BATCH: 64, Class.BACKGROUND: 256}  # so many later calls may go before it


def highest(classes: Iterable[Class]) -> Class:
    """That of those whose turn comes first; where there are none, the lowest of all."""
    return min(classes, key=BEHIND.__getitem__, default=Class.BACKGROUND)


def is_lower(klass: Class, other: Class) -> bool:
    """Whether those of this class yield to those of the other."""
    return BEHIND[klass] > BEHIND[other]
