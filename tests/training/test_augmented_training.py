"""Training with changed copies of rows: what the evidence says of them, and that a run that goes on has the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training

from llmos.abi.error import BadInput, WrongTask
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.testing import tiny
from llmos.testing.daemon import FakeDaemon, beside

pytestmark = pytest.mark.torch


def trained(told: Job) -> FakeDaemon:
    from llmos.programs import train

    daemon, channel, close = beside()
    try:
        train.main(channel, told)
    finally:
        close()
    return daemon


def rows_and_recipe(folder: Path, **settings: Json) -> dict[str, Json]:
    return {"task": "classify", "epochs": 1.0, "data": {"train": str(tiny_training.sorting(folder))}, **settings}


def test_added_rows_are_trained_on_and_the_evidence_says_what_they_give(tmp_path: Path):
    told = tiny_training.assignment(tmp_path, rows_and_recipe(tmp_path, augment="swap,delete", augment_copies=2))
    dataset, model = trained(told).offers
    rows = dataset.draft["splits"]["train"]
    found = model.draft["evidence"]["augmentation"]
    assert found["added"] == sum(found["counts"].values()) <= 2 * rows
    assert found["added"] + sum(found["missing"].values()) == 2 * rows
    assert found["gain"]["train_rows"] == rows
    assert found["gain"]["rows"] == dataset.draft["splits"]["validation"]
    assert found["promoted_is_same_without"] is False
    assert model.draft["lineage"]["steps"] == -(-(rows + found["added"]) // 8)


def test_a_run_that_goes_on_has_the_rows_that_it_began_with(tmp_path: Path):
    told = tiny_training.assignment(tmp_path, rows_and_recipe(tmp_path, augment="swap", checkpoint_every_s=1e-9))
    first = trained(told).offers[1].draft["evidence"]["augmentation"]
    kept = tmp_path / "scratch" / "augmented" / "train.parquet"
    before = kept.stat()
    again = trained(told).offers[1].draft["evidence"]["augmentation"]
    assert again == first
    assert kept.stat().st_mtime_ns == before.st_mtime_ns


def test_auto_says_what_it_tried_and_adds_nothing_that_does_not_help(tmp_path: Path):
    told = tiny_training.assignment(tmp_path, rows_and_recipe(tmp_path, augment="auto"))
    model = trained(told).offers[1]
    found = model.draft["evidence"]["augmentation"]
    assert set(found["candidates"]) == {"swap", "delete", "insert", "punctuate"}
    standings = {name: one["standing"] for name, one in found["candidates"].items() if one is not None}
    assert bool(found["by"]) == ("better" in standings.values())


def test_balance_alone_repeats_rows_of_rare_labels(tmp_path: Path):
    path = tmp_path / "few.csv"
    lines = [f"{word} {i},{word}" for i in range(60) for word in (("apple", "iron") if i % 5 == 0 else ("iron",))]
    path.write_text("\n".join(["text,label", *lines]))
    told = tiny_training.assignment(
        tmp_path, {"task": "classify", "epochs": 1.0, "balance": True, "data": {"train": str(path)}}
    )
    dataset, model = trained(told).offers
    counts = dataset.draft["label_counts"]["train"]
    assert model.draft["evidence"]["augmentation"]["counts"] == {"repeat": counts["iron"] - counts["apple"]}


@pytest.mark.parametrize(("name", "lacks"), [("masked", "masked model"), ("paraphrase", "writer")])
def test_an_augmenter_that_the_base_cannot_do_is_refused(tmp_path: Path, name: str, lacks: str):
    told = tiny_training.assignment(tmp_path, rows_and_recipe(tmp_path, augment=name))
    with pytest.raises(BadInput) as caught:
        trained(told)
    assert caught.value.detail["lacks"] == lacks


def test_near_words_of_the_base_are_words_of_the_training_rows(tmp_path: Path):
    from llmos.training.substitutes import NeighbourWords

    source = NeighbourWords(tiny_training.base(tmp_path), "cpu0", ["a", "b", "c", "longer"])
    (first, second), nothing = source.propose(["a b d", ""], [[(0, 1), (4, 5)], []])
    assert set(first) <= {"b", "c"}
    assert (second, nothing) == ((), [])


def test_a_place_is_judged_by_the_words_around_it_alone():
    from llmos.training.substitutes import AROUND, words_around

    words = [f"w{i}" for i in range(40)]
    text = " ".join(words)
    at = text.index("w20")
    (before, after), first = words_around(text, [(at, at + 3), (0, 2)])
    assert before.split() == words[20 - AROUND : 20]
    assert after.split() == words[21 : 21 + AROUND]
    assert first == ("", " " + " ".join(words[1 : 1 + AROUND]))
    assert words_around("a b", [(2, 3)]) == [("a ", "")]


def test_a_masked_model_fills_each_place_with_whole_words(tmp_path: Path):
    from transformers import AutoConfig, AutoModelForMaskedLM

    from llmos.training.substitutes import MaskedWords, has_masked_head

    base = tiny_training.base(tmp_path)
    folder = tmp_path / "masked"
    tiny.write(folder, "bert")
    assert not has_masked_head(folder)
    made = AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **tiny.ARCHITECTURES["bert"]))
    made.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "[UNK]", "pad_token": "[PAD]"}'
    )
    assert has_masked_head(folder)
    source = MaskedWords(replace(base, folder=str(folder), resident=str(folder)), "cpu0")
    ((first, second),) = source.propose(["an old card"], [[(0, 2), (3, 6)]])
    assert all(word.isalpha() and len(word) == 1 for word in (*first, *second))
    assert source.propose(["an old card"], [[(0, 2), (3, 6)]]) == [[first, second]]


def test_a_model_keeps_only_the_copies_that_it_labels_as_their_row(tmp_path: Path):
    from llmos.data.row import LabelRow
    from llmos.evaluation.agreement import load_agreement

    told = tiny_training.assignment(tmp_path, {**rows_and_recipe(tmp_path), "epochs": 8.0})
    offer = trained(told).offers[1]
    draft = offer.draft
    manifest = Manifest(
        "sorter", 1, Kind.MODEL, "classify", (), labels=tuple(draft["labels"]), options=draft["options"], method="full"
    )
    model = ModelPath(manifest, offer.folder, base=tiny_training.base(tmp_path))
    agrees = load_agreement(model, "classify", "float32", "cpu0")
    rows = [LabelRow({"text": "uuu apple 3"}, (label,), "f", 1) for label in ("animal", "fruit", "metal")]
    assert sum(agrees(rows)) == 1
    assert agrees([]) == []
    with pytest.raises(WrongTask):
        load_agreement(model, "tag", "float32", "cpu0")


def test_copies_that_may_mean_something_else_are_kept_by_the_promoted_version(tmp_path: Path):
    offer = trained(tiny_training.assignment(tmp_path, rows_and_recipe(tmp_path))).offers[1]
    draft = offer.draft
    manifest = Manifest(
        "sorter", 1, Kind.MODEL, "classify", (), labels=tuple(draft["labels"]), options=draft["options"], method="full"
    )
    later, fewer = tmp_path / "later", tmp_path / "fewer"
    for folder, labels, kept_by in (
        (later, manifest.labels, {"neighbour": "sorter:1"}),
        (fewer, manifest.labels[:1], {}),
    ):
        folder.mkdir()
        promoted = ModelPath(replace(manifest, labels=labels), offer.folder, base=tiny_training.base(tmp_path))
        recipe = rows_and_recipe(folder, augment="swap,neighbour")
        told = tiny_training.assignment(folder, recipe, promoted=promoted)
        found = trained(told).offers[1].draft["evidence"]["augmentation"]
        assert found["kept_by"] == kept_by


def test_copies_that_change_nothing_give_no_gain(tmp_path: Path):
    from llmos.abi.augmentation import Augmentation
    from llmos.abi.recipe import Data
    from llmos.data.augmentation.added import add_rows
    from llmos.data.augmentation.augmenter import Material
    from llmos.data.dataset import gather
    from llmos.evaluation.augmentation_gain import GainMeter
    from llmos.nn.frozen_vectors import FrozenEncoder
    from llmos.tasks import Settings

    splits = gather(Data(str(tiny_training.sorting(tmp_path, rows=300))), "classify", {}, {}).splits
    encoder = FrozenEncoder(tiny_training.base(tmp_path))
    meter = GainMeter("classify", splits, encoder, Settings(splits.labels, {}, encoder.max_tokens))
    again = add_rows(Material("classify", splits.train), Augmentation(("repeat",), copies=3), ())
    gain = meter.gain(again.rows)
    assert gain is not None
    assert gain.added_rows == 3 * len(splits.train)
    assert (gain.comparison.difference, gain.helps) == (0.0, False)
