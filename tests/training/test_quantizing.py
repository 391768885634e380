"""Quantizing whole: a base or a model becomes a version in int8 with what that costs, or is refused for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_training

from llmos.abi.error import BadInput, WrongTask
from llmos.abi.frame import Job, ModelPath, Stop
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest, OfferKind, Part
from llmos.testing import tiny
from llmos.testing.daemon import FakeDaemon, beside
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

SLACK = {"float32": 1e-6, "bfloat16": 0.1}  # of an accuracy, from what the same model has in float32


@pytest.fixture(autouse=True)
def _needs_fbgemm():
    torch = pytest.importorskip("torch")
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("torch has no fbgemm on this CPU")


def quantized(
    folder: Path,
    model: ModelPath,
    *,
    datasets: dict[str, str] | None = None,
    dtype: str = "float32",
    measure: Any = None,  # Any: a Measure, whose module brings torch
    **args: Json,
) -> FakeDaemon:
    from llmos.programs import quantize

    scratch = folder / "quantizing"
    scratch.mkdir(exist_ok=True)
    told = Job(
        5,
        "quantize",
        {"model": model.manifest.ref, **args},
        str(scratch),
        dtype=dtype,
        threads=1,
        models={"model": model, "promoted": model},
        datasets=datasets or {},
    )
    daemon, channel, close = beside()
    try:
        quantize.main(channel, told, measure=measure)
    finally:
        close()
    return daemon


@pytest.fixture(scope="module", params=["full", "lora"])
def trained(request, tmp_path_factory) -> tuple[ModelPath, dict[str, str]]:
    """A model that has learned something, and where its dataset lies."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = {"task": "classify", "method": request.param, "data": {"train": str(tiny_training.sorting(folder))}}
    return made_by(folder, recipe, tiny_training.base(folder))


def made_by(folder: Path, recipe: Json, base: ModelPath) -> tuple[ModelPath, dict[str, str]]:
    """What a recipe makes of this base, as the store locates it, and its dataset."""
    from llmos.programs import train

    daemon, channel, close = beside()
    train.main(channel, tiny_training.assignment(folder, recipe, base=base))
    close()
    dataset, made = daemon.offers
    draft = {key: made.draft[key] for key in ("task", "base", "method", "options", "evidence")}
    lineage = {**made.draft["lineage"], "dataset": "sorter@1"}
    labels = tuple(made.draft["labels"])
    manifest = Manifest("sorter", 1, Kind.MODEL, files=(), labels=labels, lineage=lineage, **draft)
    return ModelPath(manifest, made.folder, base=base), {"sorter@1": dataset.folder}


def test_a_model_in_int8_has_both_numbers_and_stands_on_its_base_in_int8(tmp_path, trained, dtype):
    model, datasets = trained
    daemon = quantized(tmp_path, model, datasets=datasets, dtype=dtype, max_drop=1.0)
    base, made = (one for one in daemon.offers if one.kind in (OfferKind.BASE, OfferKind.MODEL))
    assert (base.draft["dtype"], base.like, base.verdict.promote) == ("int8", "tiny:1", False)
    assert (made.draft["base"], made.like, made.verdict.promote) == ("tiny:1", "sorter:1", True)  # the fake gives 1
    cost = made.draft["evidence"]["quantized"]
    assert (cost["measure"], cost["against"]) == ("accuracy", dtype)
    assert cost.keys() & {"float32", "bfloat16"} == {dtype}
    assert f", {cost[dtype]:.4f} in {dtype}: " in made.verdict.reason
    assert cost[dtype] == pytest.approx(model.manifest.evidence["metrics"]["accuracy"], abs=SLACK[dtype])
    assert cost["int8"] == made.draft["evidence"]["metrics"]["accuracy"]
    assert cost["drop"] == pytest.approx(cost[dtype] - cost["int8"])
    assert base.draft["evidence"]["quantized"]["against"] == "float32"  # whatever the device computes in
    assert cost["low"] <= -cost["drop"] <= cost["high"]
    assert f"is lost (from {-cost['high']:.4f} to {-cost['low']:.4f})" in made.verdict.reason
    assert cost["measured_on"] == model.manifest.evidence["rows"]["test"]
    assert made.draft["labels"] == list(model.manifest.labels)
    assert made.draft["lineage"]["quantized_from"] == "sorter:1"
    assert {part for _, part in made.files} == {Part.EVIDENCE}


def test_in_int8_a_generating_model_is_measured_by_likelihood_and_answers(tmp_path):
    from test_generation_eval import sorting

    recipe = {"task": "generate", "method": "lora", "learning_rate": 2e-2, "options": {"answered_rows": 2}}
    data = {"train": str(sorting(tmp_path, 60))}
    model, datasets = made_by(tmp_path, {**recipe, "data": data}, tiny_training.base(tmp_path, "llama"))
    made = quantized(tmp_path, model, datasets=datasets, max_drop=1.0).offers[-1]
    before, after = model.manifest.evidence["metrics"], made.draft["evidence"]["metrics"]
    assert list(after) == list(before)
    assert after["answered_rows"] == 2
    cost = made.draft["evidence"]["quantized"]
    assert (cost["measure"], cost["measured_on"]) == ("likelihood", model.manifest.evidence["rows"]["test"])
    assert cost["float32"] == pytest.approx(before["likelihood"], rel=1e-3)
    assert cost["int8"] == after["likelihood"] != cost["float32"]


def test_a_model_that_loses_more_than_it_may_in_int8_is_refused(tmp_path, trained):
    from llmos.programs import quantize

    model, datasets = trained
    cost = quantize.Cost("accuracy", "bfloat16", 0.9, 0.7, 0.2, 36)
    with fails_with(BadInput, model="sorter:1", drop=0.2):
        raise quantize.refusal(model.manifest, cost.sentence(0.01), cost.drop)
    promoted = replace(model, manifest=replace(model.manifest, lineage={}))
    with fails_with(BadInput, key="data", model="sorter:1"):
        quantized(tmp_path, promoted, datasets=datasets)


def test_a_base_in_int8_says_how_near_its_vectors_are(tmp_path, dtype):
    daemon = quantized(tmp_path, tiny_training.base(tmp_path), dtype=dtype, max_drop=0.2)
    form, made = daemon.offers
    assert form.draft == {"base": "tiny:1", "dtype": "int8" if dtype == "float32" else f"int8-{dtype}"}
    assert made.draft["dtype"] == "int8"
    assert (made.kind, made.verdict.promote, made.like) == (OfferKind.BASE, True, "tiny:1")
    metrics = made.draft["evidence"]["metrics"]
    assert list(metrics) == ["mean_cosine", "least_cosine"]
    assert 0.9 < metrics["least_cosine"] <= metrics["mean_cosine"] < 1.0
    kept = json.loads((Path(made.folder) / "evidence.json").read_bytes())
    assert len(kept["texts"]) == kept["quantized"]["measured_on"] == 32
    assert "is lost" in daemon.progress[-1].message


def test_a_base_that_generates_says_what_it_thinks_less_of_the_next_token(tmp_path, dtype):
    base = tiny_training.base(tmp_path, "llama")
    daemon = quantized(tmp_path, base, dtype=dtype, max_drop=1.0)
    metrics = daemon.offers[-1].draft["evidence"]["metrics"]
    assert list(metrics) == ["loss", "loss_float32", "divergence"]
    assert 0 < metrics["divergence"] < 1


@pytest.mark.parametrize(("speed", "is_faster"), [(1.5, True), (0.7, False)])
def test_what_int8_saves_here_is_said_before_anything_is_made_and_kept(tmp_path, dtype, speed, is_faster):
    base = tiny_training.base(tmp_path)
    daemon = quantized(tmp_path, base, dtype=dtype, measure=lambda plan, dtype: {16: speed}, max_drop=1.0)
    phases = [one.phase for one in daemon.progress]
    assert phases.index("weigh") < phases.index("convert")
    said = next(one for one in daemon.progress if one.phase == "weigh" and one.done == one.total)
    assert f" in {dtype}; products {speed:.2f} for 16 tokens at once" in said.message
    assert ("It will not be faster on this machine" in said.message) == (not is_faster)
    form, made = daemon.offers  # the user decides: it goes on
    here = made.draft["evidence"]["quantized"]["here"]
    assert (here["dtype"], here["speeds"]) == (dtype, {"16": speed})
    assert 0 < here["int8_bytes"] < Path(form.folder, "model.safetensors").stat().st_size < here["int8_bytes"] + 20_000
    last = daemon.progress[-1]
    assert last.figures == said.figures == {**last.figures, "speed_16": speed, "int8_bytes": here["int8_bytes"]}
    assert said.message in last.message


def test_what_a_models_base_saves_in_int8_is_said_before_it_is_measured(tmp_path, trained):
    model, datasets = trained
    daemon = quantized(tmp_path, model, datasets=datasets, measure=lambda plan, dtype: {1: 2.0}, max_drop=1.0)
    phases = [one.phase for one in daemon.progress]
    assert phases.count("weigh") == 2  # its begin and its end: not measured again for the base
    assert phases.index("weigh") < min(i for i, one in enumerate(phases) if one.startswith("evaluate"))
    for made in (one for one in daemon.offers if one.kind in (OfferKind.BASE, OfferKind.MODEL)):
        assert made.draft["evidence"]["quantized"]["here"]["speeds"] == {"1": 2.0}


def test_a_base_that_loses_more_than_it_may_is_refused(tmp_path):
    with fails_with(BadInput, model="tiny:1", drop=...):
        quantized(tmp_path, tiny_training.base(tmp_path), max_drop=0.0)


def test_what_is_in_int8_already_is_left_alone(tmp_path):
    base = tiny_training.base(tmp_path)
    daemon = quantized(tmp_path, replace(base, manifest=replace(base.manifest, dtype="int8")))
    assert not daemon.offers
    assert daemon.progress[-1].message == "tiny:1 is served in int8 already"


def test_a_model_whose_task_cannot_be_measured_is_refused(tmp_path):
    manifest = Manifest("finder", 1, Kind.MODEL, "embed", (), base="tiny:1", method="lora")
    with fails_with(WrongTask, model="finder:1", has="embed"):
        quantized(tmp_path, ModelPath(manifest, str(tmp_path), base=tiny_training.base(tmp_path)))


@pytest.mark.parametrize("told", [-0.1, 1.5, True, "much"])
def test_a_limit_that_is_none_is_refused(tmp_path, told):
    with fails_with(BadInput, key="max_drop", value=told):
        quantized(tmp_path, tiny_training.base(tmp_path), max_drop=told)


def test_it_ends_when_it_is_told_to_and_keeps_nothing(tmp_path, trained):
    from llmos.programs import quantize

    model, datasets = trained
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    told = Job(5, "quantize", {"model": "sorter:1"}, str(scratch), models={"model": model})
    daemon, channel, close = beside()
    daemon.send(Stop("make room"))
    while not channel.stop_asked:
        pass
    quantize.main(channel, replace(told, datasets=datasets, threads=1))
    close()
    assert not daemon.offers
    assert "done" not in {one.phase for one in daemon.progress}


def test_a_pull_may_bring_the_version_in_int8_as_well(tmp_path):
    from llmos.programs import pull

    source = tiny.write(tmp_path / "source", "bert")
    (tmp_path / "scratch").mkdir()
    args = {"source": str(source), "name": "tiny", "dtype": "int8", "max_drop": 0.2}
    daemon, channel, close = beside()
    pull.main(channel, Job(1, "pull", args, str(tmp_path / "scratch"), threads=1))
    close()
    plain, floats, integers, made = daemon.offers
    assert [one.kind for one in (plain, made)] == [OfferKind.BASE, OfferKind.BASE]
    assert (floats.draft["dtype"], integers.draft["dtype"]) == ("float32", "int8")
    assert (made.draft["dtype"], made.like, made.verdict.against) == ("int8", "tiny:1", "tiny:1")
    assert daemon.progress[-1].message.startswith("tiny:1 is ready: mean_cosine 0.9")


@pytest.mark.parametrize(("max_drop", "kinds"), [(1.0, ["dataset", "model", "base", "model"]), (0.0, None)])
def test_training_may_make_the_version_in_int8_as_well(tmp_path, max_drop, kinds):
    from llmos.programs import train

    recipe = {"task": "classify", "serve_dtype": "int8", "max_drop": max_drop, "epochs": 2.0}
    path = tiny_training.sorting(tmp_path)
    daemon, channel, close = beside()
    train.main(channel, tiny_training.assignment(tmp_path, recipe | {"data": {"train": str(path)}}))
    close()
    offers = [one for one in daemon.offers if one.kind is not OfferKind.RESIDENT]
    assert kinds is None or [str(one.kind) for one in offers] == kinds
    plain, message = offers[1], daemon.progress[-1].message
    if len(offers) > 2:
        cost = offers[3].draft["evidence"]["quantized"]
        assert cost["float32"] == pytest.approx(plain.draft["evidence"]["metrics"]["accuracy"])
        assert offers[3].verdict.promote == plain.verdict.promote
        assert "is the same in int8: accuracy" in message
    else:
        assert "sorter:1 stays in float: accuracy" in message
