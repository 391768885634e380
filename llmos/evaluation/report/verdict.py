"""The verdict of an evaluation in plain words: may this model be used, within which limits, and by what number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmos.abi.json_type import Json
from llmos.evaluation.judge import RowFindings
from llmos.evaluation.statistics.comparison import Standing

if TYPE_CHECKING:
    from llmos.evaluation.evidence import Evidence

YES, LIMITED, NO, UNCLEAR = "yes", "limited", "no", "unclear"
ANSWERS = {YES: "Yes", LIMITED: "Yes, within limits", NO: "No", UNCLEAR: "Cannot tell"}
FEW_ROWS = 100  # test rows: with fewer, intervals are wide
WEAK_F1 = 0.5  # of a class: below it, it is more often wrong than right
LEAST_SUPPORT = 10  # rows of a class that is called weak
NAMED = 5  # weak classes


@dataclass(frozen=True, slots=True)
class PlainVerdict:
    """The answer, the sentence with the number, what it was compared with, and every limit or reason."""

    answer: str
    number: str
    compared: str
    limits: tuple[str, ...]

    @property
    def word(self) -> str:
        return ANSWERS[self.answer]


def plain_verdict(evidence: Evidence) -> PlainVerdict:
    """`no` where the gate refused it or a constant answer is as good; `cannot tell` where nothing was required of it,
    or the gate could not tell; else `yes`, with the limits that were found."""
    limits = _limits(evidence)
    unmet = [one for one in evidence.gate.get("conditions", ()) if not one["is_met"]]
    compared = _comparison(evidence)
    if constant := _constant_answer(evidence):
        return PlainVerdict(NO, number_of(evidence), compared, (constant, *limits))
    if evidence.is_promoted is None:
        reason = "No requirement was checked here: compare the number with what you need."
        return PlainVerdict(UNCLEAR, number_of(evidence), compared, (reason, *limits))
    if evidence.is_promoted:
        return PlainVerdict(LIMITED if limits else YES, number_of(evidence), compared, limits)
    said = tuple(f"Not met: {one['require']}. {_sentence(one['sentence'])}" for one in unmet)
    is_unclear = bool(unmet) and all(one.get("standing") == Standing.CANNOT_TELL for one in unmet)
    return PlainVerdict(UNCLEAR if is_unclear else NO, number_of(evidence), compared, (*said, *limits))


def number_of(evidence: Evidence) -> str:
    """The primary metric with its interval."""
    value, interval = evidence.judged.metrics[evidence.headline], evidence.judged.intervals.get(evidence.headline)
    rows = f"on {evidence.rows.get('test', 0):,} test rows"
    name = evidence.headline.replace("_", " ")
    if interval is None:
        return f"{name} {value:.3f} {rows}"
    return f"{name} {value:.3f}, between {interval.low:.3f} and {interval.high:.3f} with 95 % confidence, {rows}"


def _comparison(evidence: Evidence) -> str:
    found = evidence.compared
    if not found:
        share, label = _most_frequent(evidence)
        return f"Always answering {label!r} would be right in {share:.1%}." if label else ""
    ref, difference = found.get("ref"), found.get("difference")
    if difference is None:
        return f"It could not be compared with {ref}: {found.get('note') or 'another task'}."
    span = f"from {found['low']:+.3f} to {found['high']:+.3f}"
    standing = evidence.gate.get("standing") or ""
    return f"Against {ref}: {standing + ', ' if standing else ''}{difference:+.3f} ({span})."


def _limits(evidence: Evidence) -> tuple[str, ...]:
    limits = [f"The test is flattered: {leak}." for leak in evidence.leaks]
    tests = evidence.rows.get("test", 0)
    if tests < FEW_ROWS:
        limits.append(f"Only {tests} test rows: the number may be off by as much as its interval says.")
    limits += _of_classes(evidence.judged.per_class)
    limits += _of_slices(evidence.findings)
    limits += _of_calibration(evidence.calibration)
    if evidence.is_promoted and evidence.gate.get("standing") == Standing.CANNOT_TELL:
        limits.append("It is not shown to be better than the version before it: the test rows are too few to tell.")
    return tuple(limits)


def _of_classes(per_class: Mapping[str, Mapping[str, float]]) -> list[str]:
    weak = [
        (of["f1"], name)
        for name, of in per_class.items()
        if of.get("f1", 1.0) < WEAK_F1 and of.get("support", 0) >= LEAST_SUPPORT
    ]
    if not weak:
        return []
    named = ", ".join(f"{name} ({f1:.2f})" for f1, name in sorted(weak)[:NAMED])
    more = f" and {len(weak) - NAMED} more" if len(weak) > NAMED else ""
    return [f"Do not rely on it for {named}{more}: an F1 below {WEAK_F1:g}."]


def _of_slices(findings: RowFindings | None) -> list[str]:
    worst = findings.slices.worst if findings is not None else None
    if worst is None or not worst.is_shown or findings is None:
        return []
    return [
        f"It is worse on rows with {worst.name}: {findings.slices.measure} {worst.value:.3f} of {worst.rows:,} rows, "
        f"at most {worst.high:.3f}, and {worst.overall:.3f} overall."
    ]


def _of_calibration(figures: Mapping[str, Json]) -> list[str]:
    limits = []
    after = figures.get("after") or {}
    if after and after["error"] > after["limit"]:
        limits.append(
            f"Its scores are off by {after['error']:.3f} on average, more than chance explains: take them as a "
            "ranking, not as probabilities."
        )
    abstain = figures.get("abstain") or {}
    if abstain.get("why_not"):
        limits.append(_sentence(abstain["why_not"]))
    broken = [one for one in abstain.get("risks", ()) if one["promised"] == abstain.get("asked") and not one["kept"]]
    limits += [f"It gives more wrong answers than the {one['promised']:.1%} that were promised." for one in broken]
    return limits


def _most_frequent(evidence: Evidence) -> tuple[float, str]:
    """The share of the most frequent label, where the metric is the share of right labels."""
    counts = [sum(line) for line in evidence.judged.confusion]
    if evidence.headline != "accuracy" or not counts or not sum(counts):
        return 0.0, ""
    at = max(range(len(counts)), key=counts.__getitem__)
    return counts[at] / sum(counts), evidence.judged.names[at]


def _constant_answer(evidence: Evidence) -> str:
    """Why a model is of no use that is not shown to be better than saying the same of every row."""
    share, label = _most_frequent(evidence)
    interval = evidence.judged.intervals.get(evidence.headline)
    if not label or interval is None or interval.low > share or len(evidence.judged.names) < 2:
        return ""
    return f"It is not shown to be better than answering {label!r} to every row, which is right in {share:.1%}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
