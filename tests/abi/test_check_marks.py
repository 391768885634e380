"""What `data check` found, by row, as errors are marked with it."""

from __future__ import annotations

from pathlib import Path

from llmos.abi.check_marks import KINDS, read_check_marks, read_check_summary
from llmos.abi.error import Corrupt, NotFound
from llmos.abi.row_outcome import CheckMark
from llmos.data.checks.finding import CheckFinding, Severity, Suspect
from llmos.data.checks.registry import KINDS as FOUND_KINDS
from llmos.data.checks.report import JSON_FILE, CheckReport, write_kept
from llmos.testing.errors import fails_with


def report(folder: Path, *findings: CheckFinding) -> Path:
    CheckReport("rows@1", "classify", {"train": 3}, "", (), (), {}, findings).write(folder)
    return folder


def test_warnings_and_errors_mark_rows_and_notes_do_not(tmp_path: Path) -> None:
    found = [
        CheckFinding("leaks", Severity.ERROR, "x", ("r1",)),
        CheckFinding("duplicates", Severity.WARNING, "x", ("r1", "r2")),
        CheckFinding("languages", Severity.NOTE, "x", ("r3",)),
    ]
    marks = read_check_marks([report(tmp_path, *found)])
    assert marks == {"r1": (CheckMark("leaks"), CheckMark("duplicates")), "r2": (CheckMark("duplicates"),)}


def test_a_suspect_label_brings_the_likelier_one_and_a_tagged_row_none(tmp_path: Path) -> None:
    suspects = (Suspect("r1", "a", "b", 0.5), Suspect("r2", "O", "B-PER O", 0.9, (0,)))
    found = CheckFinding("suspects", Severity.WARNING, "x", ("r1", "r2"), suspects=suspects)
    marks = read_check_marks([report(tmp_path, found)])
    assert marks == {"r1": (CheckMark("suspects", "b", 0.5),), "r2": (CheckMark("suspects", "", 0.9),)}


def test_reports_of_several_versions_mark_a_row_once(tmp_path: Path) -> None:
    found = CheckFinding("duplicates", Severity.WARNING, "x", ("r1",))
    folders = [report(tmp_path / name, found) for name in ("one", "two")]
    assert read_check_marks([*folders, tmp_path / "none"]) == {"r1": (CheckMark("duplicates"),)}


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    (tmp_path / JSON_FILE).write_text("{")
    with fails_with(Corrupt, path=str(tmp_path / JSON_FILE)):
        read_check_marks([tmp_path])


def test_a_summary_counts_rows_by_kind_and_those_that_were_kept(tmp_path: Path) -> None:
    found = [
        CheckFinding("leaks", Severity.ERROR, "two rows", ("r1", "r2")),
        CheckFinding("languages", Severity.NOTE, "one row", ("r3",)),
    ]
    write_kept(report(tmp_path, *found), {"leaks": ["r2"]})
    summary = read_check_summary(tmp_path, "rows@1")
    assert (summary.dataset, summary.worst) == ("rows@1", "error")
    assert [(one.kind, one.severity, one.rows, one.kept) for one in summary.findings] == [
        ("leaks", "error", 2, 1),
        ("languages", "note", 1, 0),
    ]


def test_a_version_that_was_not_checked_has_no_summary(tmp_path: Path) -> None:
    with fails_with(NotFound, dataset="rows@1", reason="no_check"):
        read_check_summary(tmp_path, "rows@1")


def test_the_kinds_are_those_of_all_checks() -> None:
    assert KINDS == FOUND_KINDS
