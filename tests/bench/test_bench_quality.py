"""A cut of a data set: its rows as they are, in its own format, the same ones every time."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bench.quality import drawn


@pytest.mark.parametrize("most", [1, 3, 99])
def test_a_cut_keeps_rows_whole_and_is_the_same_every_time(tmp_path: Path, most: int) -> None:
    rows = [["text", "category"], *([f"a\nb, {i}", "x"] for i in range(5))]
    table, lines, columns = tmp_path / "a.csv", tmp_path / "a.tsv", tmp_path / "eng.train"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    lines.write_text("".join(f"text {i}\t0\n" for i in range(5)))
    columns.write_text("-DOCSTART- -X- O O\n\n" + "".join(f"w{i} O\nv I-PER\n\n" for i in range(5)))
    head, *kept = csv.reader(drawn(table, most).splitlines(keepends=True))
    assert head == rows[0]
    assert len(kept) == min(most, 5)
    assert all(row in rows for row in kept)
    assert len(drawn(lines, most).splitlines()) == min(most, 5)
    sentences = drawn(columns, most).strip().split("\n\n")
    assert len(sentences) == min(most, 5)
    assert all(one.splitlines()[1] == "v I-PER" for one in sentences)
    assert drawn(lines, most) == drawn(lines, most)
