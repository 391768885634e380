"""The public sets of the benches: which are chosen, and which of their rows test."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.public_sets import CUT_TEST, SETS, PublicSet, chosen_sets, read_set, write_rows
from bench.stop import Stop


def test_sets_are_measured_in_the_order_in_which_they_are_named():
    assert [one.name for one in chosen_sets("sst2, banking77,sst2", SETS)] == ["sst2", "banking77"]
    assert chosen_sets(None, SETS) == SETS


@pytest.mark.parametrize("names", ["", "banking77,nosuch"])
def test_a_set_that_there_is_not_stops_the_bench(names: str):
    with pytest.raises(Stop):
        chosen_sets(names, SETS)


def test_of_one_file_some_rows_test_and_none_of_these_train(tmp_path: Path):
    lines = [f"number {i},{'fruit' if i % 2 else 'metal'}" for i in range(CUT_TEST + 10)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]))
    train, test = read_set(tmp_path, PublicSet("sorting", "classify", "rows.csv", None))
    assert (len(train), len(test)) == (10, CUT_TEST)
    assert not {row.input["text"] for row in train} & {row.input["text"] for row in test}


def test_rows_that_a_file_has_already_are_not_written_again(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text,label\na,b\nc,d\n")
    one = PublicSet("sorting", "classify", "rows.csv", "rows.csv")
    rows, _ = read_set(tmp_path, one)
    file = tmp_path / "out" / f"rows.{one.ending}"
    write_rows(file, rows)
    before = file.stat().st_mtime_ns
    write_rows(file, rows)
    assert file.stat().st_mtime_ns == before
    again, _ = read_set(tmp_path, PublicSet("again", "classify", "out/rows.jsonl", "rows.csv"))
    assert [row.labels for row in again] == [row.labels for row in rows]
