"""fix-data makes a version without the rows, or with the labels, that a check has found."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_dataset_programs import Shop, tickets

from llmos.abi.error import BadInput
from llmos.data.checks.finding import CheckFinding, Severity, Suspect
from llmos.data.checks.labels import AGREEMENT
from llmos.data.checks.report import CheckReport, read_kept, write_kept
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.programs import fix_data, import_data
from llmos.testing.errors import fails_with


@pytest.fixture
def checked(tmp_path: Path) -> tuple[Shop, str]:
    """A dataset with a report in which two rows leak, and a training row and a test row have suspicious labels."""
    shop = Shop(tmp_path)
    test = tickets(tmp_path, 9, 100, "test.csv")
    shop.run(import_data, name="tickets", data={"train": str(tickets(tmp_path)), "test": str(test)})
    train, tests = shop.rows("tickets@1", "train"), shop.rows("tickets@1", "test")
    suspects = (Suspect(train[5], "shipping", "billing", 0.9), Suspect(tests[0], "repair", "billing", 0.8))
    findings = [
        CheckFinding("leaks", Severity.ERROR, "two rows", tuple(train[:2]), fixes=("drop",)),
        CheckFinding(
            "suspects", Severity.WARNING, "two labels", (train[5], tests[0]), fixes=("relabel",), suspects=suspects
        ),
    ]
    report = tmp_path / "report"
    CheckReport("tickets@1", "classify", {"train": 60, "test": 9}, "", (), (), {}, findings).write(report)
    return shop, str(report)


def test_leaks_go_suspects_change_and_test_rows_stay(checked: tuple[Shop, str]):
    shop, report = checked
    train, tests = shop.rows("tickets@1", "train"), shop.rows("tickets@1", "test")
    shop.run(
        fix_data, data="tickets@1", name="tickets", report=report, drop=["leaks"], relabel=["suspects"], keep=[train[1]]
    )
    made = shop.manifests["tickets@2"]
    assert shop.rows("tickets@2", "train") == [train[1], *train[2:]]
    assert shop.rows("tickets@2", "test") == tests
    assert made.parents == ("tickets@1",)
    assert made.provenance["operation"]["counts"] == {"dropped leaks": 1, "relabelled": 1}
    assert made.provenance["kept"] == {"leaks": [train[1]]}
    rows = {
        split: {row.id: row.row.labels for row in DatasetReader(Path(shop.folders["tickets@2"]), made).rows(split)}
        for split in ("train", "test")
    }
    assert rows["train"][train[5]] == ("billing",)
    assert rows["test"][tests[0]] != ("billing",)


def test_test_rows_stay_in_the_dataset_unless_they_are_named_to_change(checked: tuple[Shop, str], tmp_path: Path):
    shop, _ = checked
    train, tests = shop.rows("tickets@1", "train"), shop.rows("tickets@1", "test")
    finding = CheckFinding("near_duplicates", Severity.WARNING, "two rows", (train[0], tests[0]), fixes=("drop",))
    CheckReport("tickets@1", "classify", {"train": 60, "test": 9}, "", (), (), {}, [finding]).write(tmp_path / "near")
    args = {"data": "tickets@1", "name": "tickets", "report": str(tmp_path / "near"), "drop": ["near_duplicates"]}
    shop.run(fix_data, **args)
    assert shop.rows("tickets@2", "train") == train[1:]
    assert shop.rows("tickets@2", "test") == tests
    shop.run(fix_data, **args, with_test=True)
    assert shop.rows("tickets@3", "test") == tests[1:]


def test_labels_of_a_poor_model_need_a_flag_or_rows_that_were_read(checked: tuple[Shop, str], tmp_path: Path):
    shop, _ = checked
    id = shop.rows("tickets@1", "train")[5]
    suspects = (Suspect(id, "shipping", "billing", 0.9),)
    counts = {AGREEMENT: 0.6}
    finding = CheckFinding("suspects", Severity.WARNING, "one", (id,), counts, fixes=("relabel",), suspects=suspects)
    CheckReport("tickets@1", "classify", {"train": 60, "test": 9}, "", (), (), {}, [finding]).write(tmp_path / "poor")
    args = {"data": "tickets@1", "name": "tickets", "report": str(tmp_path / "poor"), "relabel": ["suspects"]}
    with fails_with(BadInput, reason="poor_model", agreement=0.6):
        shop.run(fix_data, **args)
    for more in ({"only": [id]}, {"with_doubt": True}):
        offer = shop.run(fix_data, **args, **more)
        assert offer.draft["provenance"]["operation"]["counts"] == {"relabelled": 1}


def test_a_dry_run_makes_nothing_and_keeps_the_plan(checked: tuple[Shop, str]):
    shop, report = checked
    train = shop.rows("tickets@1", "train")
    found = shop.run(fix_data, data="tickets@1", name="tickets", report=report, drop=["leaks"], dry_run=True)
    assert found["dropped"] == dict.fromkeys(train[:2], "leaks")
    assert list(shop.manifests) == ["tickets@1"]


def test_a_dataset_that_was_not_checked_is_told_so(checked: tuple[Shop, str], tmp_path: Path):
    shop, _ = checked
    with fails_with(BadInput, reason="no_check"):
        shop.run(fix_data, data="tickets@1", name="tickets", report=str(tmp_path / "none"), drop=["leaks"])


def test_what_is_kept_is_known_though_no_row_changes(checked: tuple[Shop, str]):
    shop, report = checked
    (id, other) = shop.rows("tickets@1", "train")[:2]
    shop.run(fix_data, data="tickets@1", name="tickets", report=report, keep=[id])
    found = list(Path(report).parent.glob("tickets@*/kept.json"))
    assert len(found) == 1
    assert read_kept(found[0].parent) == {"leaks": frozenset({id})}
    write_kept(found[0].parent, {"leaks": [other]})
    assert read_kept(found[0].parent) == {"leaks": frozenset({id, other})}
