"""Rows without labels beside labelled ones: each text once, and never one that is measured on."""

from __future__ import annotations

from pathlib import Path

from llmos.abi.recipe import Data
from llmos.data.reader import read_rows
from llmos.data.splits import Splits
from llmos.data.unlabelled import unlabelled_rows


def test_texts_that_a_labelled_split_has_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\none,a\ntwo,b\nthree,a\n")
    (tmp_path / "bare.txt").write_text("four\nTwo\nfive\nfour\nthree\n")
    data = Data(str(tmp_path / "rows.csv"), unlabelled=str(tmp_path / "bare.txt"))
    rows = read_rows(data.train, data, "classify", {}).rows
    splits = Splits(rows[:1], rows[1:2], rows[2:], ("a", "b"))
    found = unlabelled_rows(data, "classify", {}, {}, splits)
    assert [row.input["text"] for row in found] == ["four", "five"]
    assert all(not row.labels for row in found)
    assert unlabelled_rows(Data(data.train), "classify", {}, {}, splits) == []
