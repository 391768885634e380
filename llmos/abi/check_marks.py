"""What `data check` found, by kind and by row: read from the report that it keeps of a version of a dataset.

The report is check.json in HOME/checks/NAME@VERSION; beside it, kept.json lists the rows that a person has kept as they
are, by kind of finding. Both are written by llmos/data/checks/report.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import structs

from llmos.abi.error import Corrupt, NotFound
from llmos.abi.row_outcome import CheckMark, RowOutcome

REPORT, KEPT = "check.json", "kept.json"
KINDS = (
    "leaks",
    "contradictions",
    "near_contradictions",
    "suspects",
    "duplicates",
    "near_duplicates",
    "placeholders",
    "too_long",
    "unknown_text",
    "control_tokens",
    "personal_data",
    "languages",
    "balance",
)  # of findings, as the checks in llmos/data/checks name them
UNSURE = "note"  # findings that are good to know, and say nothing against a row

T = TypeVar("T")
CheckMarks = Mapping[str, tuple[CheckMark, ...]]  # by row id


class _Suspect(msgspec.Struct):
    row_id: str
    suggestion: str = ""
    score: float | None = None
    words: tuple[int, ...] = ()


class _Finding(msgspec.Struct):
    kind: str
    severity: str = ""
    sentence: str = ""
    row_ids: tuple[str, ...] = ()
    suspects: tuple[_Suspect, ...] = ()


class _Report(msgspec.Struct):
    findings: tuple[_Finding, ...] = ()
    base: str = ""
    worst: str = ""
    notes: tuple[str, ...] = ()


class FindingSummary(msgspec.Struct, frozen=True):
    """A kind of finding, how bad it is, what it says, and how many rows it names; some are kept as they are."""

    kind: str
    severity: str
    rows: int
    kept: int
    sentence: str


class CheckSummary(msgspec.Struct, frozen=True):
    """What the last check of a version found, the worst first, and when (UTC); `notes` say what it did not check."""

    dataset: str
    checked_at: str
    base: str
    worst: str
    findings: tuple[FindingSummary, ...]
    notes: tuple[str, ...] = ()


def read_check_summary(folder: Path, ref: str) -> CheckSummary:
    """The summary of the report in this folder; NotFound, with the way to make one, if there is none."""
    path = folder / REPORT
    if not path.is_file():
        raise NotFound(f"{ref} was not checked yet. First: llmos data check {ref}", dataset=ref, reason="no_check")
    found, kept = _decode(path, _Report), _read_kept(folder)
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    findings = (
        FindingSummary(
            one.kind,
            one.severity,
            len(one.row_ids),
            len(kept.get(one.kind, frozenset()).intersection(one.row_ids)),
            one.sentence,
        )
        for one in found.findings
    )
    return CheckSummary(ref, at, found.base, found.worst, tuple(findings), found.notes)


def read_check_marks(folders: Iterable[str | Path]) -> dict[str, tuple[CheckMark, ...]]:
    """The warnings and errors about each row in the reports of these folders; folders without a report are skipped.

    Rows that were kept by `data fix --keep` are not marked. Corrupt if a report cannot be read.
    """
    marks: dict[str, dict[CheckMark, None]] = {}  # a row may be in the reports of two versions
    for folder in map(Path, folders):
        if not (folder / REPORT).is_file():
            continue
        kept = _read_kept(folder)
        for finding in _decode(folder / REPORT, _Report).findings:
            if finding.severity == UNSURE:
                continue
            suspects = {one.row_id: one for one in finding.suspects}
            for row_id in finding.row_ids:
                if row_id not in kept.get(finding.kind, ()):
                    marks.setdefault(row_id, {})[_mark_of(finding.kind, suspects.get(row_id))] = None
    return {row_id: tuple(some) for row_id, some in marks.items()}


def with_check_marks(outcomes: Iterable[RowOutcome], marks: CheckMarks) -> Iterable[RowOutcome]:
    """The outcomes, each with the marks of its row."""
    for one in outcomes:
        yield structs.replace(one, checks=marks[one.id]) if one.id in marks else one


def _read_kept(folder: Path) -> dict[str, frozenset[str]]:
    """The ids of rows that were kept, by kind."""
    return _decode(folder / KEPT, dict[str, frozenset[str]]) if (folder / KEPT).is_file() else {}


def _mark_of(kind: str, suspect: _Suspect | None) -> CheckMark:
    if suspect is None:
        return CheckMark(kind)
    return CheckMark(kind, "" if suspect.words else suspect.suggestion, suspect.score)


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.MsgspecError as error:
        said = f"{path} cannot be read ({error}). Check the dataset again: llmos data check"
        raise Corrupt(said, path=str(path)) from error
