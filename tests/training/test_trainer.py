"""Training whole: from a file to an offered model that answers, by either method, stopped, killed and gone on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training

from llmos.abi.error import BadInput, BadRow, Conflict
from llmos.abi.frame import Job, ModelPath, Stop
from llmos.abi.gate import gate_policy
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest, Offer, OfferKind, Part
from llmos.testing.daemon import FakeDaemon, beside
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

KILLED = (  # method and task of a run, and how few labels are learned
    "full-classify",
    "lora-classify",
    "full-generate",
    "full-classify-pairs",
    "full-classify-unlabelled",
    "lora-classify-unlabelled pairs",
    "full-tag-unlabelled",
    "full-classify-unlabelled views",
)


def trained(
    folder: Path, recipe: dict[str, Json], told: Job | None = None, *, dtype: str = "float32", **models: ModelPath
) -> FakeDaemon:
    from llmos.programs import train

    daemon, channel, close = beside()
    try:
        train.main(channel, told or tiny_training.assignment(folder, recipe, dtype=dtype, **models))
    finally:
        close()
    return daemon


def located(offer: Offer, base: ModelPath) -> ModelPath:
    """The offered model as the store would locate it."""
    draft = offer.draft
    manifest = Manifest(
        offer.name,
        1,
        Kind.MODEL,
        draft["task"],
        (),
        base=draft["base"],
        method=draft["method"],
        labels=tuple(draft["labels"]),
        options=draft["options"],
        lineage=draft["lineage"],
    )
    return ModelPath(manifest, offer.folder, base=base)


@pytest.mark.parametrize(
    ("task", "method", "dtype"),
    [
        ("classify", "full", "float32"),
        ("classify", "lora", "bfloat16"),
        ("tag", "full", "bfloat16"),
        ("tag", "lora", "float32"),
    ],
    indirect=["dtype"],
)
def test_labelled_rows_become_a_model_that_has_learned_them(tmp_path: Path, task: str, method: str, dtype: str) -> None:
    path = tiny_training.sorting(tmp_path, rows=240) if task == "classify" else tiny_training.naming(tmp_path)
    recipe = {"task": task, "method": method, "epochs": 10.0, "data": {"train": str(path)}}
    daemon = trained(tmp_path, recipe, dtype=dtype)
    dataset, model = daemon.offers
    assert dataset.kind is OfferKind.DATASET
    assert sum(dataset.draft["splits"].values()) == (240 if task == "classify" else 150)
    assert model.verdict is not None
    assert model.verdict.promote
    metrics = model.draft["evidence"]["metrics"]
    assert next(iter(metrics)) == ("accuracy" if task == "classify" else "f1")
    assert next(iter(metrics.values())) > 0.8
    parts = {part for _, part in model.files}
    weights = {Part.WEIGHTS, Part.CONFIG, Part.TOKENIZER} if method == "full" else {Part.ADAPTER, Part.CONFIG}
    assert parts == weights | {Part.HEAD, Part.EVIDENCE}
    assert ("calibration.json", Part.CONFIG) in model.files
    assert model.draft["evidence"]["calibration"]["fitted_on"] > 0
    assert model.draft["lineage"]["recipe"]["head_rate_ratio"] > 0
    assert model.draft["lineage"]["recipe"]["dtype"] == dtype
    assert daemon.progress[-1].phase == "done"


@pytest.mark.parametrize(("method", "dtype"), [("full", "float32"), ("lora", "bfloat16")], indirect=["dtype"])
def test_a_stored_model_scores_as_it_did_when_it_was_made(tmp_path: Path, method: str, dtype: str) -> None:
    from llmos.programs import evaluate

    path = tiny_training.sorting(tmp_path)
    recipe = {"task": "classify", "method": method, "data": {"train": str(path), "test": str(path)}}
    rows, made = trained(tmp_path, recipe, dtype=dtype).offers
    kept = tmp_path / "evaluations" / "1"
    asked = replace(
        tiny_training.assignment(tmp_path, {}, dtype=dtype),
        program="evaluate",
        args={"model": "sorter:1", "data": {"train": str(path)}, "reports": str(kept)},
        models={"model": located(made, tiny_training.base(tmp_path))},
        datasets={str(made.draft["lineage"]["dataset"]): rows.folder},
    )
    daemon, channel, close = beside()
    evaluate.main(channel, asked)
    close()
    assert daemon.progress[-1].figures == made.draft["evidence"]["metrics"]
    assert daemon.progress[-1].message.endswith(f"Report: {kept}/report.html")
    then, now = made.draft["evidence"], json.loads((kept / "evidence.json").read_bytes())
    (leak,) = now["leaks"]  # a tenth were its validation rows, all others it has learned from
    assert leak.startswith("108 of the test rows (90.0%) are also in the training rows of sorter:1")
    assert now["calibration"]["temperature"] == then["calibration"]["temperature"]
    assert now["calibration"]["after"]["error"] == pytest.approx(then["calibration"]["after"]["error"], abs=1e-2)


def test_a_promise_that_so_few_rows_cannot_make_keeps_the_version_a_candidate(tmp_path: Path) -> None:
    path = tiny_training.sorting(tmp_path)
    recipe = {"task": "classify", "options": {"abstain": 0.01}, "data": {"train": str(path)}}
    verdict = trained(tmp_path, recipe).offers[1].verdict
    assert verdict is not None
    assert not verdict.promote
    assert (
        "12 validation rows do not suffice to promise that at most 0.01 of the answers given are wrong"
        in verdict.reason
    )


def test_an_evaluation_told_to_stop_ends_and_keeps_nothing(tmp_path: Path) -> None:
    from llmos.programs import evaluate

    path = tiny_training.sorting(tmp_path)
    made = trained(tmp_path, {"task": "classify", "epochs": 0.1, "data": {"train": str(path)}}).offers[1]
    asked = replace(
        tiny_training.assignment(tmp_path, {}),
        program="evaluate",
        args={"model": "sorter:1", "data": {"train": str(path)}, "reports": str(tmp_path / "evaluations" / "1")},
        models={"model": located(made, tiny_training.base(tmp_path))},
    )
    daemon, channel, close = beside()
    daemon.send(Stop("make room"))
    while not channel.stop_asked:
        pass
    evaluate.main(channel, asked)
    close()
    assert "done" not in {one.phase for one in daemon.progress}
    assert not (tmp_path / "evaluations").exists()


def test_a_base_without_its_resident_form_gets_one_before_it_is_trained(tmp_path: Path) -> None:
    bare = replace(tiny_training.base(tmp_path), resident=None)
    recipe = {"task": "classify", "epochs": 0.1, "data": {"train": str(tiny_training.sorting(tmp_path))}}
    form, *others = trained(tmp_path, recipe, base=bare).offers
    assert (form.kind, form.draft["dtype"]) == (OfferKind.RESIDENT, "float32")
    assert [one.kind for one in others] == [OfferKind.DATASET, OfferKind.MODEL]


def test_many_labels_can_be_learned(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": f"{'apple ' * (i % 2)}{'iron ' * (i // 2 % 2)}{i}", "labels": labels})
        for i in range(120)
        if (labels := ["fruit"] * (i % 2) + ["metal"] * (i // 2 % 2)) is not None
    ]
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(lines))
    recipe = {"task": "classify", "epochs": 12.0, "options": {"multi_label": True}, "data": {"train": str(path)}}
    offer = trained(tmp_path, recipe).offers[1]
    assert offer.draft["evidence"]["metrics"]["micro_f1"] > 0.8


def test_a_dataset_made_by_one_run_feeds_another_the_same_rows(tmp_path: Path) -> None:
    path = tiny_training.naming(tmp_path)
    first = trained(tmp_path, {"task": "tag", "data": {"train": str(path)}}).offers[0]
    from llmos.abi.recipe import Data
    from llmos.data.dataset import gather

    one = gather(Data(str(path)), "tag", {}, {})
    again = gather(Data("sorter@1"), "tag", {}, {"sorter@1": first.folder})
    assert again.digest() == one.digest() == first.draft["provenance"]["digest"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Offer, Offer]:
    """A folder with rows, and the dataset and the model of a training that has learned them."""
    folder = tmp_path_factory.mktemp("good")
    path = tiny_training.sorting(folder)
    dataset, model = trained(folder, {"task": "classify", "epochs": 12.0, "data": {"train": str(path)}}).offers
    return folder, dataset, model


def test_a_worse_candidate_stays_one_and_says_by_how_much(tmp_path: Path, good: tuple[Path, Offer, Offer]) -> None:
    folder, _, model = good
    path = tiny_training.sorting(tmp_path)
    promoted = located(model, tiny_training.base(folder))
    recipe = {"task": "classify", "epochs": 0.1, "learning_rate": 1e-6, "data": {"train": str(path)}}
    told = tiny_training.assignment(tmp_path, recipe, promoted=promoted)
    policy = gate_policy(["not-worse", "accuracy.low>=0.9", "size_mb<=100", "latency_ms<=60000"], 0.05)
    daemon = trained(tmp_path, recipe, told=replace(told, gate=policy))
    verdict = daemon.offers[1].verdict
    assert verdict is not None
    assert (verdict.promote, verdict.against) == (False, "sorter:1")
    assert "not met: worse than sorter:1 with 1.0000: -0.6667" in verdict.reason
    assert any("has learned from are not known" in one.message for one in daemon.progress)
    evidence = daemon.offers[1].draft["evidence"]
    metrics, intervals = evidence["metrics"], evidence["intervals"]
    assert intervals.keys() == metrics.keys()
    assert all(one["low"] <= metrics[name] <= one["high"] for name, one in intervals.items())
    assert daemon.progress[-1].intervals["accuracy"] == (intervals["accuracy"]["low"], intervals["accuracy"]["high"])
    compared, gate = evidence["compared"], evidence["gate"]
    assert (compared["ref"], compared["accuracy"], compared["our_metric"]) == ("sorter:1", 1.0, metrics["accuracy"])
    assert compared["difference"] == pytest.approx(metrics["accuracy"] - 1)
    assert compared["rows"] == evidence["rows"]["test"]
    assert (gate["promoted"], gate["standing"], gate["margin"]) == (False, "worse", 0.05)
    assert {one["require"]: one["is_met"] for one in gate["conditions"]} == {
        "not-worse": False,
        "accuracy.low>=0.9": False,
        "size_mb<=100": True,
        "latency_ms<=60000": True,
    }
    assert all(one["value"] > 0 for one in gate["conditions"][2:])
    page = (Path(daemon.offers[1].folder) / "report.html").read_text()
    assert all(one["require"].replace(">", "&gt;").replace("<", "&lt;") in page for one in gate["conditions"])


def test_two_versions_are_compared_on_rows_that_neither_has_learned_from(
    tmp_path: Path, good: tuple[Path, Offer, Offer]
) -> None:
    folder, dataset, model = good
    path = tiny_training.sorting(tmp_path)
    promoted = located(model, tiny_training.base(folder))
    promoted = replace(promoted, manifest=replace(promoted.manifest, lineage={"dataset": "sorter@1"}))
    known = path.read_text().splitlines()[1:41]
    test = tmp_path / "test.csv"
    test.write_text("\n".join(["text,label", *known, *(f"zzz iron {i},metal" for i in range(500, 504))]))
    recipe = {"task": "classify", "epochs": 4.0, "data": {"train": str(path), "test": str(test)}}
    told = tiny_training.assignment(tmp_path, recipe, promoted=promoted)
    offer = trained(tmp_path, recipe, told=replace(told, datasets={"sorter@1": dataset.folder})).offers[1]
    learned = dataset.draft["splits"]["train"]
    assert learned == 96
    assert offer.verdict is not None
    assert "of the 44 test rows are left out: it has learned from them" in offer.verdict.reason
    assert "on those that the promoted version has not learned from" in offer.verdict.reason
    assert offer.draft["evidence"]["compared"]["ours"] is not None


def test_a_row_too_long_for_the_base_is_told_before_training(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(40)]
    path.write_text("\n".join(["text,label", *rows, f"{'x' * 300},a"]))
    with fails_with(BadRow, line=42, size=302, limit=128):
        trained(tmp_path, {"task": "classify", "data": {"train": str(path)}})


def test_more_tokens_than_the_base_takes_cannot_be_asked_for(tmp_path: Path) -> None:
    recipe = {
        "task": "classify",
        "options": {"max_tokens": 4096},
        "data": {"train": str(tiny_training.sorting(tmp_path))},
    }
    with fails_with(BadInput, key="max_tokens", limit=128):
        trained(tmp_path, recipe)


def test_a_stopped_run_leaves_a_checkpoint_and_no_model_and_goes_on(tmp_path: Path, dtype: str) -> None:
    from llmos.programs import train

    recipe = {"task": "classify", "data": {"train": str(tiny_training.sorting(tmp_path))}}
    daemon, channel, close = beside()
    daemon.send(Stop("make room"))
    while not channel.stop_asked:
        pass
    train.main(channel, tiny_training.assignment(tmp_path, recipe, dtype=dtype))
    close()
    assert [offer.kind for offer in daemon.offers] == [OfferKind.DATASET]
    (checkpoint,) = (tmp_path / "scratch" / "checkpoints").iterdir()
    assert checkpoint.name == "step-1"
    assert trained(tmp_path, recipe, dtype=dtype).offers[-1].kind is OfferKind.MODEL


def test_a_checkpoint_of_other_data_is_not_gone_on_from(tmp_path: Path) -> None:
    path = tiny_training.sorting(tmp_path)
    trained(tmp_path, {"task": "classify", "checkpoint_every_s": 1e-9, "data": {"train": str(path)}})
    path.write_text(path.read_text().replace("apple", "grape"))
    with fails_with(Conflict, reason="other_recipe"):
        trained(tmp_path, {"task": "classify", "checkpoint_every_s": 1e-9, "data": {"train": str(path)}})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """What runs in peace and killed runs ended with: in a process that forks the trainers, as the zygote does, so that
    torch is imported once."""
    code = str(Path(__file__).parents[1] / "killed_training.py")
    done = subprocess.run(
        [sys.executable, code, str(tmp_path_factory.mktemp("killed")), *KILLED],
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Json] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("run", KILLED)
def test_a_run_killed_again_and_again_ends_at_the_same_bits(runs: dict[str, Json], run: str) -> None:
    assert runs[run]["kills"] == 5, "it ended before it was killed so often"
    assert runs[run]["killed"] == runs[run]["undisturbed"]
