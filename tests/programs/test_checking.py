"""check-data reads a dataset, asks a base where there is one, and keeps a report and a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from test_dataset_programs import Shop, tickets

from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.programs import check_data, import_data
from llmos.programs.label_predictions import ask_base
from llmos.testing import tiny

pytestmark = pytest.mark.torch


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.run(
        import_data, name="tickets", data={"train": str(tickets(tmp_path)), "test": str(tickets(tmp_path, 6, 57, "t"))}
    )
    return made


def test_a_check_without_a_base_finds_leaks_and_says_what_it_left_out(shop: Shop, tmp_path: Path):
    found = shop.run(check_data, data="tickets@1", report=str(tmp_path / "report"), without=["languages"])
    leaks = next(one for one in found["findings"] if one["kind"] == "leaks")
    assert set(leaks["row_ids"]) == set(shop.rows("tickets@1", "train")[-3:])
    assert found["base"] == ""
    assert len(found["notes"]) == 1
    report = json.loads((tmp_path / "report" / "check.json").read_text())
    assert report["findings"] == found["findings"]
    assert Path(found["page"]).read_text().startswith("<!doctype html>")


def test_a_base_counts_tokens_and_gives_a_probability_for_every_label(shop: Shop, tmp_path: Path):
    base = ModelPath(Manifest("base", 1, Kind.BASE, "embed", ()), str(tiny.write(tmp_path / "bert", "bert")))
    reader = DatasetReader(Path(shop.folders["tickets@1"]), shop.manifests["tickets@1"])
    rows = list(reader.rows("train"))
    phases = []
    facts = ask_base(
        base,
        "classify",
        rows,
        dtype="float32",
        threads=1,
        with_labels=True,
        on_done=lambda phase, done, total: phases.append(phase),
    )
    assert facts.predictions is not None
    assert facts.predictions.labels == ("billing", "repair", "shipping")
    assert facts.predictions.probabilities.shape == (60, 3)
    assert facts.token_counts[rows[0].id] == len(rows[0].row.input["text"].encode()) + 2
    assert "[CLS]" in facts.control_tokens
    assert phases == ["embed", "labels"]
