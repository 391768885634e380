"""Which of the rows that a promoted version was tested on a candidate is compared on, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.abi.recipe import Data
from llmos.data.dataset import LoadedData, gather, keep, training_keys
from llmos.data.row import Row
from llmos.evaluation.conditions.condition import Incumbent
from llmos.programs.incumbent import comparison_json, earlier_rows

Rows = Mapping[str, Json]  # targets by text


def labelled(count: int, label: Json = None, first: int = 0) -> dict[str, Json]:
    return {f"text {at}": label or "ab"[at % 2] for at in range(first, first + count)}


def gathered(
    folder: Path, task: str = "classify", options: Mapping[str, Json] | None = None, **splits: Rows
) -> LoadedData:
    """The rows of a run, by split."""
    files = {}
    target = "labels" if (options or {}).get("multi_label") else "label"
    folder.mkdir()
    for name, rows in splits.items():
        path = folder / f"{name}.jsonl"
        names = ("prompt", "completion") if task == "generate" else ("text", target)
        path.write_text("\n".join(json.dumps(dict(zip(names, one, strict=True))) for one in rows.items()))
        files[name] = str(path)
    return gather(Data(**files), task, dict(options or {}), {})


def found(folder: Path, before: LoadedData, now: LoadedData, task: str = "classify") -> tuple[list[Row], str]:
    """The earlier rows of a version that was trained on `before`, for a candidate of `now`."""
    keep(before, task, folder / "kept", before.options)
    manifest = Manifest("m", 1, Kind.MODEL, task, (), base="b:1", labels=before.splits.labels, options=before.options)
    known = training_keys(str(folder / "kept"), task, before.options)
    model = ModelPath(manifest, "")
    return earlier_rows(model, str(folder / "kept"), now, task, now.splits.labels, known)


def texts(rows: Sequence[Row]) -> set[str]:
    return {row.texts[0] for row in rows}


OTHER = labelled(10, first=900)


def test_rows_that_the_promoted_version_has_learned_from_are_left_out(tmp_path):
    before = gathered(tmp_path / "before", train=labelled(8), validation=OTHER, test=labelled(20))
    now = gathered(tmp_path / "now", train=labelled(8, first=100), validation=OTHER, test=labelled(8, first=200))
    rows, note = found(tmp_path, before, now)
    assert texts(rows) == set(labelled(12, first=8))
    assert note == "without 8 that m:1 has learned from"


def test_of_a_contradiction_what_is_learned_with_the_same_label_is_left_out(tmp_path):
    before = gathered(tmp_path / "before", train=OTHER, validation=OTHER, test=labelled(40))
    same, changed = labelled(15), {text: "ab"[label == "a"] for text, label in labelled(15, first=15).items()}
    now = gathered(tmp_path / "now", train={**same, **changed}, validation=OTHER, test=OTHER)
    rows, note = found(tmp_path, before, now)
    assert texts(rows) == set(labelled(25, first=15))
    assert note == "15 of which have other labels in the new rows"


@pytest.mark.parametrize(("count", "is_shown"), [(1, False), (9, False), (10, True)])
def test_a_contradiction_takes_a_least_number_of_shared_texts(tmp_path, count, is_shown):
    before = gathered(tmp_path / "before", train=OTHER, validation=OTHER, test=labelled(20, "a"))
    now = gathered(tmp_path / "now", train={**labelled(count, "b"), **OTHER}, validation=OTHER, test=OTHER)
    rows, note = found(tmp_path, before, now)
    assert len(rows) == (20 if is_shown else 20 - count)
    assert ("other labels" in note) is is_shown


def test_many_labels_are_the_same_in_any_order(tmp_path):
    many, base = {"multi_label": True}, {**labelled(4, ["a"], 800), **labelled(4, ["b"], 850)}
    before = gathered(tmp_path / "before", options=many, train=base, validation=base, test=labelled(20, ["a", "b"]))
    now = {**labelled(20, ["b", "a"]), **base}
    rows, note = found(
        tmp_path, before, gathered(tmp_path / "now", options=many, train=now, validation=base, test=base)
    )
    assert (rows, "other labels" in note) == ([], False)


def test_shared_rows_without_labels_are_said_to_be_not_looked_at(tmp_path):
    before = gathered(tmp_path / "before", "generate", train=OTHER, validation=OTHER, test=labelled(12))
    now = gathered(tmp_path / "now", "generate", train=labelled(12, "other"), validation=OTHER, test=OTHER)
    rows, note = found(tmp_path, before, now, "generate")
    assert (rows, note) == (
        [],
        "this run has all others too, and only of labels it is told whether they are others now",
    )


def test_a_dataset_that_was_removed_is_said_in_the_evidence(tmp_path):
    now = gathered(tmp_path / "now", train=OTHER, validation=OTHER, test=OTHER)
    model = ModelPath(Manifest("m", 1, Kind.MODEL, "classify", ()), "")
    rows, note = earlier_rows(model, None, now, "classify", ("a", "b"), frozenset())
    assert (rows, note) == ([], "the rows that m:1 was tested on are not known")
    assert comparison_json(Incumbent("m:1", "classify", earlier_note=note), "accuracy")["earlier"] == {"note": note}
