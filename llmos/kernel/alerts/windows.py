"""Windows of time over metrics and events, as alert expressions ask for them. Memory is bounded, whatever happens.

A window of a counter keeps about `POINTS` readings of the samples that match, and measures from the newest one that is
as old as the window, or from the oldest. Counters begin at 0 when the daemon starts, so a sample that was not there
counts from 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from llmos.abi.json_type import Json
from llmos.kernel.alerts.expression import (
    OF_CALLS,
    Condition,
    LabelMatcher,
    Measured,
    MeasureFunction,
    MetricSeries,
    parts_of,
)

POINTS = 120
MOST_EVENTS = 10_000  # of a kind; the oldest are forgotten first
CALLS, CALL_SECONDS = "llmos_calls_total", "llmos_call_seconds_bucket"
# outcomes that are a fault of the daemon, its model or its machine; all others are answers, or faults of callers
FAULTS = frozenset(
    {"internal", "process_died", "crashed", "corrupt", "timed_out", "no_room", "disk_full", "unavailable"}
)
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MetricSample:
    """One sample of a metric, under the name that a scrape shows."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event that some rule counts."""

    at: float
    data: Mapping[str, Json]


@dataclass(slots=True)
class CounterWindow:
    """Readings of the samples that one function is about."""

    window_s: float
    points: deque[tuple[float, dict[Labels, float]]] = field(default_factory=deque)

    def add(self, at: float, values: dict[Labels, float]) -> None:
        """Keep a reading, unless the last one is young; forget those that no window reaches any more."""
        points = self.points
        if not points or at - points[-1][0] >= self.window_s / POINTS:
            points.append((at, values))
        while len(points) > 1 and points[1][0] <= at - self.window_s:
            points.popleft()

    def growth(self, values: dict[Labels, float]) -> dict[Labels, float]:
        """How much each sample has grown since the start of the window, given what was added last."""
        before = self.points[0][1] if self.points else {}
        return {key: max(value - before.get(key, 0.0), 0.0) for key, value in values.items()}


class Windows:
    """The figures of all rules: `read` them now and then, `see` events as they happen."""

    def __init__(self, read: Callable[[], Iterable[MetricSample]], clock: Callable[[], float]) -> None:
        """`read` gives every sample of the daemon's metrics; `clock` is monotonic."""
        self._read = read
        self._clock = clock
        self._parts: dict[MetricSeries | Measured, None] = {}
        self._names: frozenset[str] = frozenset()
        self._counters: dict[Measured, CounterWindow] = {}
        self._events: dict[str, deque[SeenEvent]] = {}
        self._values: dict[MetricSeries | Measured, dict[Labels, float]] = {}
        self._at = clock()

    def watch(self, conditions: Iterable[Condition]) -> None:
        """Keep what these conditions ask for, and forget the rest. What is known of them already stays."""
        parts = dict.fromkeys(part for one in conditions for part in parts_of(one))
        self._parts = parts
        counted = [one for one in parts if isinstance(one, Measured) and one.measure is not MeasureFunction.EVENTS]
        self._counters = {one: self._counters.get(one) or CounterWindow(one.window_s) for one in counted}
        kinds = {one.subject for one in parts if isinstance(one, Measured) and one.measure is MeasureFunction.EVENTS}
        self._events = {kind: self._events.get(kind, deque(maxlen=MOST_EVENTS)) for kind in sorted(kinds)}
        self._names = frozenset(name_of(one) for one in parts if not is_of_events(one))
        self.read()

    def read(self) -> None:
        """Take a reading of all metrics that are asked for; nothing is read where none is."""
        self._at = self._clock()
        if not self._names:
            return
        found: dict[MetricSeries | Measured, dict[Labels, float]] = {
            one: {} for one in self._parts if not is_of_events(one)
        }
        for reading in self._read():
            if reading.name in self._names:
                for part, values in found.items():
                    if name_of(part) == reading.name and matches(part, reading.labels):
                        values[tuple(sorted(reading.labels.items()))] = reading.value
        self._values = found
        for measured, window in self._counters.items():
            window.add(self._at, found.get(measured, {}))

    def counts(self, kind: str) -> bool:
        """Whether any rule counts events of this kind."""
        return kind in self._events

    def see(self, kind: str, data: Mapping[str, Json]) -> None:
        """An event has happened."""
        if (seen := self._events.get(kind)) is not None:
            self._at = self._clock()
            seen.append(SeenEvent(self._at, data))

    def last_event(self, measured: Measured) -> Mapping[str, Json] | None:
        """The data of the newest event in the window that this function counts."""
        found = self._in_window(measured)
        return found[-1].data if found else None

    # For expressions.

    def present(self, series: MetricSeries) -> float | None:
        values = self._values.get(series)
        return sum(values.values()) if values else None

    def measure(self, measured: Measured) -> float | None:
        if measured.measure is MeasureFunction.EVENTS:
            return float(len(self._in_window(measured)))
        window, values = self._counters.get(measured), self._values.get(measured, {})
        if window is None:
            return None
        grown = window.growth(values)
        match measured.measure:
            case MeasureFunction.INCREASE | MeasureFunction.CALLS:
                return sum(grown.values())
            case MeasureFunction.RATE:
                return sum(grown.values()) / measured.window_s
            case MeasureFunction.ERRORS:
                return share_of_faults(grown)
            case _:
                return quantile(measured.q or 0.5, grown)

    def _in_window(self, measured: Measured) -> list[SeenEvent]:
        since = self._clock() - measured.window_s
        seen = self._events.get(measured.subject, ())
        return [one for one in seen if one.at > since and all(fits(matcher, one.data) for matcher in measured.matchers)]


def is_of_events(part: MetricSeries | Measured) -> bool:
    return isinstance(part, Measured) and part.measure is MeasureFunction.EVENTS


def name_of(part: MetricSeries | Measured) -> str:
    """The name of the samples that a part of an expression is about."""
    if isinstance(part, MetricSeries):
        return part.name
    if part.measure in OF_CALLS:
        return CALL_SECONDS if part.measure is MeasureFunction.LATENCY else CALLS
    name = part.series.name if part.series is not None else ""
    return f"{name}_bucket" if part.measure is MeasureFunction.QUANTILE else name


def matches(part: MetricSeries | Measured, labels: Mapping[str, str]) -> bool:
    """Whether a sample with these labels is meant."""
    if isinstance(part, Measured) and part.series is None:
        return names_model(part.subject, labels.get("model", ""))
    series = part if isinstance(part, MetricSeries) else part.series
    assert series is not None
    return all(fnmatchcase(labels.get(one.name, ""), one.glob) is not one.is_not for one in series.matchers)


def names_model(glob: str, ref: str) -> bool:
    """Whether a ref is meant: by a ref, by its bare name, or by a glob of either."""
    return fnmatchcase(ref, glob) or fnmatchcase(ref.partition(":")[0], glob)


def fits(matcher: LabelMatcher, data: Mapping[str, Json]) -> bool:
    """Whether an event's field, named by its path such as `rollout.stage`, is as asked; one that is missing is ""."""
    found: Json = data
    for name in matcher.name.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    text = "" if found is None else str(found).lower() if isinstance(found, bool) else str(found)
    return fnmatchcase(text, matcher.glob) is not matcher.is_not


def share_of_faults(grown: Mapping[Labels, float]) -> float | None:
    """The share of ended calls that failed by our own fault; None without calls. Calls that clients left are none."""
    counted = {key: number for key, number in grown.items() if dict(key).get("outcome") != "cancelled"}
    total = sum(counted.values())
    failed = sum(number for key, number in counted.items() if dict(key).get("outcome") in FAULTS)
    return failed / total if total else None


def quantile(q: float, grown: Mapping[Labels, float]) -> float | None:
    """The quantile of a histogram's growth, linear within its bucket; the last bound where it is beyond."""
    bounds: dict[float, float] = {}
    for key, number in grown.items():
        if (text := dict(key).get("le")) is not None:
            bounds[float(text)] = bounds.get(float(text), 0.0) + number
    ordered = sorted(bounds.items())
    if not ordered or not ordered[-1][1]:
        return None
    rank, low, below = q * ordered[-1][1], 0.0, 0.0
    for bound, count in ordered:
        if count >= rank and count > below:
            return low if bound == float("inf") else low + (bound - low) * (rank - below) / (count - below)
        low, below = (low if bound == float("inf") else bound), count
    return low
