"""Evidence: an evaluation in the manifest, as evidence.json and as a self-contained HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llmos.abi.json_type import Json
from llmos.abi.model import Part
from llmos.abi.row_outcome import PREDICTIONS, write_outcomes
from llmos.abi.wire import to_json
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.judge import RowFindings
from llmos.evaluation.report.page import page
from llmos.training.checkpoint import EpochRecord

DATA = "evidence.json"
PAGE = "report.html"
PARTS = ((DATA, Part.EVIDENCE), (PAGE, Part.EVIDENCE))


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
    distillation: dict[str, Json] = field(default_factory=dict)  # what it lost of its teacher, and gained in speed
    self_training: dict[str, Json] = field(default_factory=dict)  # unlabelled rows that were learned, by round
    findings: RowFindings | None = None
    learning: dict[str, Json] = field(default_factory=dict)  # what fewer rows give, and more should

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
            **({"distillation": self.distillation} if self.distillation else {}),
            **({"self_training": self.self_training} if self.self_training else {}),
            **({"worst_slice": worst.plain()} if worst is not None else {}),
            **({"learning": self.learning} if self.learning else {}),
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
