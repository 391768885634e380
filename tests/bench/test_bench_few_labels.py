"""The bench of few labels: what keeps its labels, what is written without them, and that kept runs stay."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.few_labels import WAYS, FewSet, chosen_ways, draw, measure_set, write_files
from bench.stop import Stop
from llmos.abi.recipe import Data
from llmos.data.reader import read_rows, stream_rows

FEW = FewSet("sorting", "classify", "train.csv", None, 0.8, each=3)
TAGGED = FewSet("news", "tag", "train.conll", "test.conll", 0.7, share=0.25)


def sorting(folder: Path, rows: int = 40) -> Path:
    lines = [f"number {i},{'fruit' if i % 2 else 'metal'}" for i in range(rows)]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines]))
    return folder


def news(folder: Path, sentences: int = 12) -> Path:
    text = "".join(f"Ada B-PER\ncame O\n{i} O\n\n" for i in range(sentences))
    (folder / "train.conll").write_text(text)
    (folder / "test.conll").write_text("Bob B-PER\nwent O\n\n")
    return folder


class Box:
    """A daemon whose trainings end at once; it counts them."""

    def __init__(self) -> None:
        self.recipes: list[dict[str, Any]] = []  # Any: as JSON
        self.interrupted: list[dict[str, Any]] = []
        self.resumed: list[int] = []

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        if (method, path) == ("GET", "/v1/processes"):
            return {"data": self.interrupted}
        if (method, path) == ("POST", "/v1/processes"):
            self.recipes.append(body["args"])
            return {"pid": len(self.recipes)}
        if path.endswith("/resume"):
            self.resumed.append(int(path.split("/")[-2]))
            return {}
        if path.startswith("/v1/processes/"):
            return {"state": "exited", "exit_code": 0, "made": ["rows@1", "few:1"], "usage": {"cpu_s": 5.0}}
        interval = {"low": 0.7, "high": 0.9}
        return {"evidence": {"metrics": {"accuracy": 0.8}, "intervals": {"accuracy": interval}}}


def test_every_label_keeps_as_many_rows_and_no_text_is_in_both_parts(tmp_path: Path):
    rows = list(read_rows(str(sorting(tmp_path) / "train.csv"), Data(""), "classify", {}).rows)
    few, rest = draw([*rows, *rows[:5]], FEW, seed=1)
    assert Counter(row.labels[0] for row in few) == {"fruit": 3, "metal": 3}
    assert not {row.input["text"] for row in few} & {row.input["text"] for row in rest}
    again, _ = draw([*rows, *rows[:5]], FEW, seed=1)
    other, _ = draw([*rows, *rows[:5]], FEW, seed=2)
    assert [row.line for row in few] == [row.line for row in again] != [row.line for row in other]


def test_the_rows_without_labels_have_no_trace_of_them(tmp_path: Path):
    files = write_files(news(tmp_path), tmp_path / "out", TAGGED, seed=1)
    assert "PER" in files.few.read_text()
    assert "PER" not in files.rest.read_text()
    bare = list(stream_rows(str(files.rest), Data(""), "tag", {}, is_labelled=False))
    assert len(bare) == 9


def test_a_share_of_the_rows_keeps_its_labels_where_rows_have_many(tmp_path: Path):
    rows = list(read_rows(str(news(tmp_path) / "train.conll"), Data(""), "tag", {}).rows)
    few, rest = draw(rows, TAGGED, seed=3)
    assert (len(few), len(rest)) == (3, 9)


def test_a_run_that_is_kept_is_not_made_again(tmp_path: Path):
    box = Box()
    few = FewSet("sorting", "classify", "train.csv", "train.csv", 0.8, each=3)
    first = measure_set(sorting(tmp_path), tmp_path / "kept", box, few, (1, 2))
    assert len(box.recipes) == 2 * len(WAYS)
    assert measure_set(tmp_path, tmp_path / "kept", box, few, (1, 2)) == first
    assert len(box.recipes) == 2 * len(WAYS)
    assert [one.verdict for one in first] == ["met", "", ""]


def test_a_run_that_an_earlier_bench_began_goes_on(tmp_path: Path):
    box = Box()
    few = FewSet("sorting", "classify", "train.csv", "train.csv", 0.8, each=3)
    measure_set(sorting(tmp_path), tmp_path / "first", box, few, (1,))
    begun = [{"pid": 9, "state": "interrupted", "spec": {"program": "train", "args": one}} for one in box.recipes]
    box.interrupted = begun[:1]
    for file in (tmp_path / "first").glob("*.json"):
        file.unlink()
    measure_set(tmp_path, tmp_path / "first", box, few, (1,))
    assert box.resumed == [9]


def test_the_ways_that_are_named_are_measured(tmp_path: Path):
    box = Box()
    few = FewSet("sorting", "classify", "train.csv", "train.csv", 0.8, each=3)
    measure_set(sorting(tmp_path), tmp_path / "kept", box, few, (1,), chosen_ways("r-drop,views,r-drop"))
    assert [(one.get("consistency"), one.get("views")) for one in box.recipes] == [(1.0, None), (None, 1.0)]
    assert all("unlabelled" in one["data"] for one in box.recipes)
    assert chosen_ways(None) == WAYS
    with pytest.raises(Stop):
        chosen_ways("views,nosuch")


def test_of_tags_r_drop_is_not_measured(tmp_path: Path):
    box = Box()
    assert measure_set(news(tmp_path), tmp_path / "kept", box, TAGGED, (1,), ("r-drop",)) == []
    assert box.recipes == []
