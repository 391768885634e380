"""What `data check` found, by row: read from the report that it keeps of a version of a dataset.

The report is check.json in HOME/checks/NAME@VERSION; beside it, kept.json lists the rows that a person has kept as they
are, by kind of finding. Both are written by llmos/data/checks/report.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import structs

from llmos.abi.error import Corrupt
from llmos.abi.row_outcome import CheckMark, RowOutcome

REPORT, KEPT = "check.json", "kept.json"
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
    row_ids: tuple[str, ...] = ()
    suspects: tuple[_Suspect, ...] = ()


class _Report(msgspec.Struct):
    findings: tuple[_Finding, ...] = ()


def read_check_marks(folders: Iterable[str | Path]) -> dict[str, tuple[CheckMark, ...]]:
    """The warnings and errors about each row in the reports of these folders; folders without a report are skipped.

    Rows that were kept by `data fix --keep` are not marked. Corrupt if a report cannot be read.
    """
    marks: dict[str, dict[CheckMark, None]] = {}  # a row may be in the reports of two versions
    for folder in map(Path, folders):
        if not (folder / REPORT).is_file():
            continue
        kept = _decode(folder / KEPT, dict[str, frozenset[str]]) if (folder / KEPT).is_file() else {}
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
