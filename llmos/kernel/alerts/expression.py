"""The expressions of alert rules: what they are made of, and how each is written. The parser is in `parser`.

A condition compares numbers, and conditions are joined by `and`, `or` and `not`. A number is a literal, a metric, or a
function over a window of time. There are no loops, no names but those below, and nothing that calls anything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class MeasureFunction(StrEnum):
    """The functions that measure metrics or events over a window."""

    INCREASE = "increase"  # how much a counter has grown
    RATE = "rate"  # the same a second
    QUANTILE = "quantile"  # of a histogram
    CALLS = "calls"  # ended calls of a model
    ERRORS = "errors"  # the share of them that failed, not by a fault of their callers
    LATENCY = "latency"  # a quantile of their seconds
    EVENTS = "events"  # events of a kind


OF_SERIES = frozenset({MeasureFunction.INCREASE, MeasureFunction.RATE, MeasureFunction.QUANTILE})
OF_CALLS = frozenset({MeasureFunction.CALLS, MeasureFunction.ERRORS, MeasureFunction.LATENCY})
OF_QUANTILES = frozenset({MeasureFunction.QUANTILE, MeasureFunction.LATENCY})


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """A label, or an event's field, whose text must match this glob; with `is_not`, must not."""

    name: str
    glob: str
    is_not: bool = False

    def __str__(self) -> str:
        return f"{self.name}{'!=' if self.is_not else '='}{json.dumps(self.glob)}"


@dataclass(frozen=True, slots=True)
class Number:
    """A literal; durations are in seconds."""

    value: float

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """The sum of the present values of a metric's samples that match."""

    name: str
    matchers: tuple[LabelMatcher, ...] = ()

    def __str__(self) -> str:
        return self.name + (f"{{{', '.join(map(str, self.matchers))}}}" if self.matchers else "")


@dataclass(frozen=True, slots=True)
class Measured:
    """A function over the last `window_s` seconds.

    `subject` is the model's name or ref, or the kind of events; `series` is that of functions of metrics; `q` is a
    quantile, from 0 to 1.
    """

    measure: MeasureFunction
    window_s: float
    subject: str = ""
    series: MetricSeries | None = None
    q: float | None = None
    matchers: tuple[LabelMatcher, ...] = ()

    def __str__(self) -> str:
        subject = str(self.series) if self.series is not None else json.dumps(self.subject)
        quantile = [] if self.q is None else [repr(self.q)]
        first = [*quantile, subject] if self.measure is MeasureFunction.QUANTILE else [subject, *quantile]
        return f"{self.measure}({', '.join([*first, f'{self.window_s!r}s', *map(str, self.matchers)])})"


@dataclass(frozen=True, slots=True)
class Negated:
    """The number below zero."""

    number: Quantity

    def __str__(self) -> str:
        return f"-({self.number})"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`operator` is one of + - * /; a division by zero has no value."""

    operator: str
    left: Quantity
    right: Quantity

    def __str__(self) -> str:
        return f"({self.left} {self.operator} {self.right})"


@dataclass(frozen=True, slots=True)
class NumberComparison:
    """False where a side has no value. `operator` is one of < <= > >= == !=."""

    operator: str
    left: Quantity
    right: Quantity

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition

    def __str__(self) -> str:
        return f"not ({self.condition})"


@dataclass(frozen=True, slots=True)
class JoinedConditions:
    """Conditions joined by `and`, or by `or`."""

    word: str
    left: Condition
    right: Condition

    def __str__(self) -> str:
        return f"({self.left} {self.word} {self.right})"


Quantity = Number | MetricSeries | Measured | Negated | Arithmetic
Condition = NumberComparison | Not | JoinedConditions


def parts_of(node: Quantity | Condition) -> Iterator[MetricSeries | Measured]:
    """The metrics and functions in an expression, in the order in which they are written."""
    match node:
        case MetricSeries() | Measured():
            yield node
        case Negated(inner):
            yield from parts_of(inner)
        case Not(condition):
            yield from parts_of(condition)
        case Arithmetic() | NumberComparison() | JoinedConditions():
            yield from parts_of(node.left)
            yield from parts_of(node.right)
        case Number():
            pass


def event_kinds(condition: Condition) -> frozenset[str]:
    """The kinds of events that an expression counts."""
    parts = parts_of(condition)
    return frozenset(
        one.subject for one in parts if isinstance(one, Measured) and one.measure is MeasureFunction.EVENTS
    )


def longest_window_s(condition: Condition) -> float:
    """The longest window of an expression; 0 if it has none."""
    return max((one.window_s for one in parts_of(condition) if isinstance(one, Measured)), default=0.0)
