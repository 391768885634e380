"""What the bench of calibration trains and measures on."""

from __future__ import annotations

import csv
from pathlib import Path

from bench.calibration import FAR, LEFT_OUT, NEAR, OUT_OF_SCOPE, Set, Size, split

LABELS = 20


def folder_of(tmp_path: Path) -> Path:
    """The folders of sets that the bench reads, with made-up rows."""
    banking, agnews, sst = (tmp_path / name for name in ("banking77", "agnews", "sst2"))
    for place in (banking, agnews, sst):
        place.mkdir()
    for name, copies in (("train", 100), ("test", 10)):
        with (banking / f"{name}.csv").open("w", newline="") as file:
            rows = [(f"{name} question {i}", f"label {i % LABELS}") for i in range(LABELS * copies)]
            csv.writer(file).writerows([("text", "category"), *rows])
    (agnews / "classes.txt").write_text("World\nSports\n")
    (agnews / "test.csv").write_text("".join(f'"{1 + i % 2}","title {i}","text"\n' for i in range(600)))
    (sst / "test.tsv").write_text("".join(f"a film {i}\t{i % 2}\n" for i in range(600)))
    return tmp_path


def test_labels_out_of_scope_are_not_learned_and_follow_the_test_rows(tmp_path: Path) -> None:
    one = Set("banking-scope", "banking77", Size(200, 1.0), has_scope=True)
    parts = split(folder_of(tmp_path), one, Size(200, 1.0), 7)
    inside = {label for _, label in parts["train"]}
    assert len(inside) == LABELS - LEFT_OUT
    assert {label for part in ("validation", "test") for _, label in parts[part]} == inside
    assert len(parts["train"]) == 200
    count = len(parts["test"])
    for kind, strange in ((NEAR, LEFT_OUT * 10), (FAR, 1000)):
        assert parts[kind][:count] == parts["test"]
        assert [label for _, label in parts[kind][count:]] == [OUT_OF_SCOPE] * strange


def test_no_row_is_in_two_parts_and_another_seed_parts_otherwise(tmp_path: Path) -> None:
    one, size = Set("banking", "banking77", None), Size(None, None)
    first, again, other = (split(folder, one, size, seed) for folder in [folder_of(tmp_path)] for seed in (7, 7, 8))
    texts = [text for rows in first.values() for text, _ in rows]
    assert len(texts) == len(set(texts)) == LABELS * 110
    assert first == again != other
