"""Files as people have them: devices, columns named twice, names without numbers, a text's column as the label."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmos.abi.error import BadInput, BadRow
from llmos.abi.recipe import Data
from llmos.data.families.labels import refuse_unknown
from llmos.data.reader import read_rows
from llmos.data.row import LabelRow
from llmos.data.splits import make_splits, too_few
from llmos.testing.errors import fails_with


def test_a_pipe_or_a_device_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    for path in (str(tmp_path / "rows.csv"), "/dev/zero"):
        with fails_with(BadInput, value="device"):
            read_rows(path, Data(path), "classify", {})


def test_columns_without_a_header_are_counted_in_the_error(tmp_path: Path) -> None:
    path = _file(tmp_path, "foo,bar\nx,y\nz,w\n")
    with pytest.raises(BadRow) as refused:
        read_rows(path, Data(path), "classify", {})
    assert "The file has no header, so its columns are 0 to 1." in refused.value.message


@pytest.mark.parametrize(("count", "said"), [(1, "1 row is too few"), (1234, "1,234 rows are too few")])
def test_rows_that_are_too_few_to_split_are_counted(count: int, said: str) -> None:
    assert too_few(count, 0.1, "test").message.startswith(said)


def test_of_two_columns_of_one_name_a_note_says_which_is_read(tmp_path: Path) -> None:
    path = _file(tmp_path, "text,label,label\n" + "".join(f"text {i},{'ab'[i % 2]},x\n" for i in range(8)))
    found = read_rows(path, Data(path), "classify", {})
    assert {row.labels for row in found.rows} == {("a",), ("b",)}
    assert found.notes == ["rows.csv: several columns are called 'label', and the first of them is read"]


def test_names_of_classes_for_a_column_without_numbers_are_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, "text,label\none,a\ntwo,b\n")
    with fails_with(BadInput, key="class_names"):
        read_rows(path, Data(path, class_names="good,bad"), "classify", {})


def test_a_row_that_is_left_out_is_named_with_its_kind(tmp_path: Path) -> None:
    path = _file(tmp_path, "text,label\none,a\n,b\ntwo,b\n")
    found = read_rows(path, Data(path, on_bad_row="skip"), "classify", {})
    assert "rows.csv: 1 row is left out (no text: 1)" in found.notes


def test_where_every_row_is_bad_nobody_is_told_to_skip_them(tmp_path: Path) -> None:
    path = _file(tmp_path, "text,label\none,\ntwo,\nthree,a\n")
    with pytest.raises(BadRow) as some:
        read_rows(path, Data(path), "classify", {})
    bad = _file(tmp_path, "text,label\n,a\n,b\n")
    with pytest.raises(BadRow) as every:
        read_rows(bad, Data(bad), "classify", {})
    assert "on_bad_row" in some.value.message
    assert "on_bad_row" not in every.value.message


def test_rows_with_a_label_each_are_asked_for_another_column() -> None:
    rows = [LabelRow({"text": f"text {i}"}, (f"label {i}",), "rows.csv", i) for i in range(30)]
    with fails_with(BadInput, reason="too_many_labels"):
        make_splits("classify", rows, None, None, (0.1, 0.1))


def test_a_number_where_labels_have_names_is_asked_whether_it_is_a_class() -> None:
    row = LabelRow({"text": "text"}, ("1",), "rows.csv", 2)
    with pytest.raises(BadRow) as numbered:
        refuse_unknown([row], ["bad", "good"])
    with pytest.raises(BadRow) as other:
        refuse_unknown([row], ["2", "3"])
    assert "class_names" in numbered.value.message
    assert "class_names" not in other.value.message


def _file(folder: Path, text: str) -> str:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)
