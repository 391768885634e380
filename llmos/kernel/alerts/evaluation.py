"""Evaluates alert expressions. A number without a value, such as a share of no calls, makes its comparison false."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

from llmos.kernel.alerts.expression import (
    Arithmetic,
    Condition,
    JoinedConditions,
    Measured,
    MetricSeries,
    Negated,
    Not,
    Number,
    NumberComparison,
    Quantity,
)

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
COMPUTE: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


class Figures(Protocol):
    """What expressions are evaluated on."""

    def present(self, series: MetricSeries) -> float | None:
        """The sum of the samples of a metric that match, now; None without any."""
        ...

    def measure(self, measured: Measured) -> float | None:
        """A function over its window, up to now; None without any value."""
        ...


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """Whether a condition is true, and the number that its first comparison compares."""

    is_true: bool
    value: float | None


def evaluate(condition: Condition, figures: Figures) -> RuleFinding:
    """Evaluate a condition; it never raises."""
    match condition:
        case NumberComparison(sign, left, right):
            pair = value_of(left, figures), value_of(right, figures)
            is_true = pair[0] is not None and pair[1] is not None and COMPARE[sign](pair[0], pair[1])
            return RuleFinding(is_true, pair[1] if isinstance(left, Number) else pair[0])
        case Not(inner):
            found = evaluate(inner, figures)
            return RuleFinding(not found.is_true, found.value)
        case JoinedConditions(word, left, right):
            first, second = evaluate(left, figures), evaluate(right, figures)
            both = first.is_true and second.is_true
            is_true = both if word == "and" else first.is_true or second.is_true
            return RuleFinding(is_true, first.value if first.value is not None else second.value)


def value_of(quantity: Quantity, figures: Figures) -> float | None:
    """The value of a number; None if it has none, is too large, or is divided by zero."""
    match quantity:
        case Number(value):
            return value
        case MetricSeries():
            return figures.present(quantity)
        case Measured():
            return figures.measure(quantity)
        case Negated(inner):
            found = value_of(inner, figures)
            return None if found is None else -found
        case Arithmetic(sign, left, right):
            first, second = value_of(left, figures), value_of(right, figures)
            if first is None or second is None:
                return None
            try:
                result = COMPUTE[sign](first, second)
            except (ZeroDivisionError, OverflowError):
                return None
            return result if isfinite(result) else None
