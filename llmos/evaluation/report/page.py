"""Renders the evidence of an evaluation as one HTML file, which stands alone: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import RowOutcome, SpanMark, badness, check_sentence
from llmos.abi.task import Family, spec_of
from llmos.evaluation.calibration_page import section
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.report.svg import Series, line_plot
from llmos.evaluation.report.verdict import plain_verdict

if TYPE_CHECKING:
    from llmos.evaluation.evidence import Evidence

SHOWN_ERRORS = 50
OPEN_ERRORS = 10  # the others are folded away
SHOWN_CLASSES = 15  # more are folded away, the worst stand first
SHOWN_SLICES = 12  # of one facet
SHOWN_CONFUSIONS = 25
MATRIX_LABELS = 15  # a matrix of more labels cannot be read
TEXT = 400  # characters of a text


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text: plain, or a marked span with its label and whether it is right."""

    text: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Confusion:
    """One label taken for another: how often, and which share of its rows."""

    true: str
    given: str
    count: int
    share: float


def page(evidence: Evidence) -> str:
    """The page; every text of a user is escaped."""
    from jinja2 import Environment

    judged = evidence.judged
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = files("llmos.evaluation").joinpath("report/page.html.jinja").read_text(encoding="utf-8")
    classes = sorted(judged.per_class.items(), key=lambda pair: pair[1]["f1"])
    has_matrix = 0 < len(judged.names) <= MATRIX_LABELS and bool(judged.confusion)
    errors = worst_errors(evidence.findings.outcomes) if evidence.findings is not None else []
    return environment.from_string(template).render(
        e=evidence,
        judged=judged,
        verdict=plain_verdict(evidence),
        interval=judged.intervals.get(evidence.headline),
        classes=classes,
        most_classes=SHOWN_CLASSES,
        is_by_word=spec_of(evidence.task).family is Family.TAGS,
        matrix=list(zip(judged.names, judged.confusion, strict=True)) if has_matrix else [],
        confusions=[] if has_matrix else confusions(judged),
        loss_plot=_loss_plot(evidence),
        metric_plot=_metric_plot(evidence),
        learning_plot=_learning_plot(evidence.learning),
        slices=_by_facet(evidence),
        most_slices=SHOWN_SLICES,
        most_errors=OPEN_ERRORS,
        errors=[(one, pieces(one, is_true=True), pieces(one, is_true=False)) for one in errors],
        wrong=sum(not one.is_right for one in evidence.findings.outcomes) if evidence.findings is not None else 0,
        calibration=section(evidence.calibration, _reliability_plot(evidence.calibration)),
        name=lambda file: PurePath(file).name,
        checked=check_sentence,
        short=shorten,
    )


def worst_errors(outcomes: Sequence[RowOutcome]) -> list[RowOutcome]:
    """The wrong rows with the highest loss."""
    return sorted((one for one in outcomes if not one.is_right), key=lambda one: (-badness(one), one.row))[
        :SHOWN_ERRORS
    ]


def pieces(one: RowOutcome, *, is_true: bool) -> list[Piece]:
    """A text in pieces, with its true spans marked or the given ones; of overlapping spans the first is marked."""
    if not one.spans:
        return []
    text, found, at = one.texts[0], [], 0

    def label_of(mark: SpanMark) -> str:
        return mark.label if is_true else mark.given

    for mark in sorted((m for m in one.spans if label_of(m)), key=lambda m: (m.start, m.end)):
        if mark.start < at or mark.end > len(text):
            continue
        found += [Piece(text[at : mark.start]), Piece(text[mark.start : mark.end], label_of(mark), mark.kind)]
        at = mark.end
    return [*found, Piece(text[at:])]


def shorten(text: str) -> str:
    """The text as a page shows it."""
    return text if len(text) <= TEXT else f"{text[: TEXT - 1]}…"


def confusions(judged: EvaluationResult) -> list[Confusion]:
    """The labels that are most often taken for another one."""
    pairs = [
        Confusion(judged.names[i], judged.names[j], count, count / max(1, sum(row)))
        for i, row in enumerate(judged.confusion)
        for j, count in enumerate(row)
        if count and i != j
    ]
    return sorted(pairs, key=lambda one: (-one.count, -one.share, one.true))[:SHOWN_CONFUSIONS]


def _by_facet(evidence: Evidence) -> list[tuple[str, list[Json]]]:
    found: dict[str, list[Json]] = {}
    for one in evidence.findings.slices.slices if evidence.findings is not None else ():
        found.setdefault(one.facet, []).append(one)
    return [
        (facet, sorted(some, key=lambda one: one.metric) if len(some) > SHOWN_SLICES else some)
        for facet, some in found.items()
    ]


def _loss_plot(evidence: Evidence) -> str:
    steps = [Series("loss of a step", list(evidence.losses), "faint", has_dots=False)] if evidence.losses else []
    marks = [(float(mark.step), mark.loss) for mark in evidence.marks]
    return line_plot([*steps, Series("mean loss", marks, "b")], "step", "training loss") if marks or steps else ""


def _metric_plot(evidence: Evidence) -> str:
    marks = [(float(mark.step), mark.metric) for mark in evidence.marks]
    name = f"validation {evidence.validated or evidence.headline}".replace("_", " ")
    return line_plot([Series("", marks)], "step", name) if marks else ""


def _reliability_plot(calibration: Mapping[str, Json]) -> str:
    """Accuracy by confidence, before and after the temperature; on the diagonal both are the same."""
    if not calibration:
        return ""
    bins = {name: [(one[1], one[2]) for one in calibration[name]["bins"]] for name in ("before", "after")}
    least = min(value for some in bins.values() for point in some for value in point)
    series = [Series("perfectly calibrated", [(least, least), (1.0, 1.0)], "faint", has_dots=False)]
    if calibration.get("temperature") != 1:
        series.append(Series("without the temperature", bins["before"], "b"))
    return line_plot([*series, Series("as served", bins["after"])], "confidence", "share of right answers")


def _learning_plot(learning: Mapping[str, Json]) -> str:
    """What more rows bring: the measured means, the curve through them and its band."""
    if not learning:
        return ""
    points = [(float(one["rows"]), float(one["mean"])) for one in learning["points"]]
    spread = [(float(one["rows"]), float(one["low"]), float(one["high"])) for one in learning["points"]]
    ahead = learning.get("ahead")
    series = [Series("a linear head on the base's frozen vectors", points, "a", band=spread)]
    if ahead:
        last = points[-1]
        band = [(last[0], *spread[-1][1:]), (float(ahead["rows"]), float(ahead["low"]), float(ahead["high"]))]
        series.append(Series("extrapolated", [last, (float(ahead["rows"]), float(ahead["mean"]))], "b", band=band))
    return line_plot(series, "training rows", str(learning["metric"]).replace("_", " "))
