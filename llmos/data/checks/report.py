"""The report of a check: JSON for programs, and a page of its own for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from llmos.abi.json_type import Json
from llmos.data.checks.finding import CheckFinding, Severity

JSON_FILE = "check.json"
PAGE = "check.html"
KEPT = "kept.json"
TEMPLATE = "report.html.jinja"
MOST_BARS = 30


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found in a dataset, and with what; `notes` say what was not checked, and why."""

    dataset: str
    task: str
    rows: Mapping[str, int]  # by split
    base: str
    without: Sequence[str]
    notes: Sequence[str]
    labels: Mapping[str, int]  # rows by label
    findings: Sequence[CheckFinding]

    @property
    def worst(self) -> str:
        """The name of the worst severity; clean, if there is no finding."""
        return max(one.severity for one in self.findings).name.lower() if self.findings else "clean"

    def as_json(self) -> dict[str, Json]:
        """The report in plain types."""
        findings = [
            {
                **asdict(one),
                "severity": one.severity.name.lower(),
                "count": len(one.row_ids),
            }
            for one in self.findings
        ]
        return {
            "dataset": self.dataset,
            "task": self.task,
            "rows": dict(self.rows),
            "base": self.base,
            "without": list(self.without),
            "notes": list(self.notes),
            "worst": self.worst,
            "findings": findings,
        }

    def write(self, folder: Path) -> Path:
        """Write both files, each atomically; returns the page."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / JSON_FILE, json.dumps(self.as_json(), ensure_ascii=False))
        _write(folder / PAGE, self.page())
        return folder / PAGE

    def page(self) -> str:
        """The page: no file, font or script from elsewhere."""
        from jinja2 import Environment, FileSystemLoader  # here, for only a check pays for it

        made = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
        return made.get_template(TEMPLATE).render(
            r=self,
            total=sum(self.rows.values()),
            bars=bars_of({one.kind: len(one.row_ids) for one in self.findings if one.row_ids}),
            label_bars=bars_of(self.labels),
            severities={one: one.name.lower() for one in Severity},
        )


def bars_of(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Names, counts and widths from 0 to 1 of a chart's bars, the longest first."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MOST_BARS]
    most = max((count for _, count in ordered), default=1)
    return [(name, count, count / most) for name, count in ordered]


def read_kept(folder: Path) -> dict[str, frozenset[str]]:
    """Ids of rows that were kept in this version, by kind."""
    path = folder / KEPT
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {kind: frozenset(ids) for kind, ids in found.items()}


def write_kept(folder: Path, kept: Mapping[str, Sequence[str]]) -> None:
    """Remember them beside the version's report: a version of the same rows is no new one."""
    folder.mkdir(parents=True, exist_ok=True)
    before = read_kept(folder)
    joined = {kind: sorted({*before.get(kind, ()), *kept.get(kind, ())}) for kind in sorted({*before, *kept})}
    _write(folder / KEPT, json.dumps(joined))


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".tmp-{path.name}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
