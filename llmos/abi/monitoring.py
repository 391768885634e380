"""Monitoring of a model's calls: what is noted of each input, and what a monitor has found."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmos.abi.json_type import Json

FOLDER = "monitors"  # of the home: a folder for each monitored name
STATE = "state.json"
LOOKS = "looks.jsonl"  # one a line, the oldest first
REPORT = "report.html"
MOST_LOOKS = 5_000  # that are kept
MOST_TEXT = 1_000  # characters of a text that are kept for a monitor
DRIFT = "drift"  # the event


@dataclass(frozen=True, slots=True)
class ObservedInput:
    """One input of a call. `label` is empty and `confidence` None where an answer has none; `text` only where it may be
    kept. `unknown` are the tokens outside of the vocabulary, among `tokens`."""

    label: str = ""
    confidence: float | None = None
    tokens: int = 0
    unknown: int = 0
    words: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class MonitoredVersion:
    """The version that a monitored name means now; `predictions` is the path of its evaluation by row, if it has one.

    `embeds` is the base that gives vectors of texts; empty where it gives none.
    """

    ref: str
    task: str = ""
    predictions: str = ""
    embeds: str = ""


@dataclass(frozen=True, slots=True)
class SignalState:
    """One signal at the newest look: its statistic, the threshold above which it alone is an alarm, the p value."""

    signal: str
    statistic: float
    threshold: float
    p_value: float
    is_drifting: bool = False
    since: float | None = None


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """A signal has left what the reference has; `ended_at` once it is back."""

    at: float
    model: str
    signal: str
    statistic: float
    threshold: float
    p_value: float
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class LookRecord:
    """One look, for the report: its version, the calls until then, and by signal the statistic, threshold, p value."""

    at: float
    ref: str
    calls: int
    signals: dict[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class AccuracyState:
    """How often the version is right: on the reference, by the confidence of the window, and by feedback.

    `estimated` supposes that answers of a confidence are as often right as on the reference. Each has a 95 % interval.
    """

    reference: float | None = None
    estimated: float | None = None
    estimated_low: float | None = None
    estimated_high: float | None = None
    measured: float | None = None
    measured_low: float | None = None
    measured_high: float | None = None
    measured_rows: int = 0


@dataclass(frozen=True, slots=True)
class MonitorState:
    """What a monitor has found. `pid` is its process; None: none is at work.

    `reference` says what calls are compared with: `evaluation` or `first calls`. `texts` are those of the newest look
    that a classifier tells best from the reference, with its score.
    """

    name: str
    ref: str = ""
    status: str = "starting"  # then waiting, quiet or drift
    pid: int | None = None
    reference: str = ""
    reference_rows: int = 0
    window: int = 0
    calls: int = 0
    looks: int = 0
    looked_at: float | None = None
    signals: tuple[SignalState, ...] = ()
    accuracy: AccuracyState = AccuracyState()
    labels: dict[str, tuple[float, float]] = field(default_factory=dict)  # shares: reference, window
    texts: tuple[tuple[str, float], ...] = ()
    alarms: tuple[DriftAlarm, ...] = ()  # the newest first
    message: str = ""


def observed_input(given: Json, output: Json, tokens: int, unknown: int = 0, *, keeps_text: bool) -> ObservedInput:
    """What is noted of an input and its answer."""
    text = given if isinstance(given, str) else given.get("text", "") if isinstance(given, dict) else ""
    label, confidence = "", None
    if isinstance(output, dict):
        named, score = output.get("label"), output.get("score")
        label = "" if named is None else str(named)
        if "label" in output and isinstance(score, float):
            confidence = score
    words = text.count(" ") + 1 if isinstance(text, str) and text else 0
    kept = text[:MOST_TEXT] if keeps_text and isinstance(text, str) else ""
    return ObservedInput(label, confidence, tokens, unknown, words, kept)
