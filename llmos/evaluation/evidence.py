"""Evidence: an evaluation in the manifest, as evidence.json and as a self-contained HTML report."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.abi.json_type import Json
from llmos.abi.model import Part
from llmos.abi.row_outcome import PREDICTIONS, write_outcomes
from llmos.abi.task import Family, spec_of
from llmos.abi.wire import to_json
from llmos.evaluation import calibration_page
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.judge import RowFindings
from llmos.training.checkpoint import EpochRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DATA = "evidence.json"
PAGE = "report.html"
PARTS = ((DATA, Part.EVIDENCE), (PAGE, Part.EVIDENCE))
INK, ACCENT = "#1f2937", "#2563eb"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one evaluation says of one model."""

    title: str
    task: str
    headline: str
    judged: EvaluationResult
    rows: dict[str, int]
    verdict: str = ""
    is_promoted: bool | None = None  # None: nothing was decided
    compared: dict[str, Json] = field(default_factory=dict)
    gate: dict[str, Json] = field(default_factory=dict)  # what each condition found
    leaks: tuple[str, ...] = ()
    validated: str = ""  # what the validation rows gave, where it is not the headline
    facts: dict[str, str] = field(default_factory=dict)
    losses: Sequence[tuple[int, float]] = ()
    marks: Sequence[EpochRecord] = ()
    calibration: dict[str, Json] = field(default_factory=dict)
    augmentation: dict[str, Json] = field(default_factory=dict)  # which rows were added, and what they give
    findings: RowFindings | None = None

    def plain(self) -> dict[str, Json]:
        """For the manifest: the headline first among the metrics."""
        judged = self.judged
        worst = self.findings.slices.worst if self.findings is not None else None
        return {
            "metrics": judged.metrics,
            "intervals": {name: interval.plain() for name, interval in judged.intervals.items()},
            "per_class": judged.per_class,
            "confusion": {"labels": list(judged.names), "counts": [list(row) for row in judged.confusion]},
            "rows": self.rows,
            "compared": self.compared,
            "gate": self.gate,
            "leaks": list(self.leaks),
            **({"calibration": self.calibration} if self.calibration else {}),
            **({"augmentation": self.augmentation} if self.augmentation else {}),
            **({"worst_slice": worst.plain()} if worst is not None else {}),
        }

    def write(self, folder: Path) -> tuple[tuple[str, Part], ...]:
        """All files, into this folder: the numbers, the page, and the predictions by row where there are some."""
        folder.mkdir(parents=True, exist_ok=True)
        whole = {
            **self.plain(),
            "title": self.title,
            "verdict": self.verdict,
            "facts": self.facts,
            "mistakes": [asdict(one) for one in self.judged.mistakes],
            "curves": {"losses": list(self.losses), "epochs": [asdict(mark) for mark in self.marks]},
        }
        if self.findings is not None:
            whole["slices"] = self.findings.slices.plain()
            write_outcomes(self.findings.outcomes, folder / PREDICTIONS)
        (folder / DATA).write_bytes(to_json(whole))
        (folder / PAGE).write_text(page(self), encoding="utf-8")
        return (*PARTS, (PREDICTIONS, Part.EVIDENCE)) if self.findings is not None else PARTS


def page(evidence: Evidence) -> str:
    """The evaluation as one HTML file: styles and plots within, and every text of a user escaped."""
    from jinja2 import Environment

    template = files("llmos.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser draws the letters, and has them
        plots = {
            "confusion": _svg(_confusion(evidence.judged)) if evidence.judged.confusion else "",
            "curves": _svg(_curves(evidence)) if evidence.marks else "",
            "calibration": _calibration(evidence.calibration),
        }
    classes = sorted(evidence.judged.per_class.items(), key=lambda pair: -pair[1]["f1"])
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    is_by_word = spec_of(evidence.task).family is Family.TAGS
    return environment.from_string(template).render(
        e=evidence, judged=evidence.judged, classes=classes, is_by_word=is_by_word, **plots
    )


def _calibration(figures: dict[str, Json]) -> str:
    return calibration_page.section(figures, _svg(calibration_page.reliability_plot(figures))) if figures else ""


def _confusion(judged: EvaluationResult) -> Figure:
    """Shares of each true label's rows, so that rare labels show; the counts stand in the cells where they fit."""
    from matplotlib.figure import Figure

    count = len(judged.names)
    side = min(18.0, max(4.0, 1.6 + 0.24 * count if count > 12 else 2.4 + 0.5 * count))
    figure = Figure(figsize=(side, side))
    axes = figure.add_subplot()
    shares = [[n / max(1, sum(row)) for n in row] for row in judged.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if count <= 12 else max(5, 9 - count // 20)
    axes.set_xticks(range(count), judged.names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(count), judged.names, fontsize=size, parse_math=False)
    axes.set_xlabel("given", color=INK)
    axes.set_ylabel("true", color=INK)
    for i, row in enumerate(judged.confusion):
        for j, n in enumerate(row):
            if n and (count <= 20 or i != j):
                axes.text(
                    j, i, str(n), ha="center", va="center", fontsize=size, color="white" if shares[i][j] > 0.5 else INK
                )
    figure.set_layout_engine("tight")
    return figure


def _curves(evidence: Evidence) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.2))
    loss = figure.add_subplot()
    if evidence.losses:
        steps, values = zip(*evidence.losses, strict=True)
        loss.plot(steps, values, color="#9ca3af", linewidth=1, label="loss of a step")
    loss.plot([m.step for m in evidence.marks], [m.loss for m in evidence.marks], color=INK, marker="o", label="loss")
    loss.set_xlabel("step")
    loss.set_ylabel("loss", color=INK)
    metric = loss.twinx()
    metric.plot(
        [m.step for m in evidence.marks],
        [m.metric for m in evidence.marks],
        color=ACCENT,
        marker="o",
        label=f"validation {evidence.validated or evidence.headline}",
    )
    metric.set_ylabel(f"validation {evidence.validated or evidence.headline}", color=ACCENT)
    figure.set_layout_engine("tight")
    return figure


def _svg(figure: Figure) -> str:
    """The figure as SVG to stand inside a page; its text stays text."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "llmos", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    drawn = out.getvalue()
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawn[drawn.index("<svg") :], count=1)
