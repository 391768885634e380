"""pull of an ONNX graph: what it is for is declared, what does not fit is refused before anything is kept."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnx", reason="the tools for tests are not installed")

from pulling import ENCODER, Box, write

from llmos.abi.error import BadInput
from llmos.abi.model import Part
from llmos.programs.describe import choose_files
from llmos.programs.pull import main
from llmos.testing.errors import fails_with
from llmos.testing.tiny_onnx import write_onnx, write_pipeline

pytestmark = pytest.mark.torch


def pulled(tmp_path, source, **args):
    box = Box(tmp_path / "home")
    main(box, box.assignment(str(source), name="graph", **args))
    return box, box.store.resolve("graph")


def test_a_folder_becomes_a_base_with_engine_task_and_labels_and_no_other_form(tmp_path):
    box, made = pulled(tmp_path, write_onnx(tmp_path / "mine"), task="classify")
    assert (made.task, made.labels) == ("classify", ("no", "yes", "perhaps"))
    assert made.options == {"engine": "onnx", "tasks": ["classify"], "max_tokens": 64}
    assert box.store.resident("graph", "float32") is None
    assert "tokenizer.json" in {file.path for file in made.files}


def test_given_labels_come_before_a_files_and_those_before_the_configs(tmp_path):
    folder = write_onnx(tmp_path / "mine")
    (folder / "labels.txt").write_text("a\nb\n\nc\n")
    assert pulled(tmp_path / "1", folder, task="classify")[1].labels == ("a", "b", "c")
    assert pulled(tmp_path / "2", folder, task="classify", labels=["x", "y", "z"])[1].labels == ("x", "y", "z")


def test_a_graph_that_gives_maps_says_its_labels_itself(tmp_path):
    pytest.importorskip("skl2onnx", reason="the tools for tests are not installed")
    _, made = pulled(tmp_path, write_pipeline(tmp_path / "mine"), task="classify")
    assert made.labels == ("billing", "delivery")


def test_other_labels_than_the_graph_s_map_has_are_refused_with_the_numbers(tmp_path):
    pytest.importorskip("skl2onnx", reason="the tools for tests are not installed")
    source = write_pipeline(tmp_path / "mine")
    for number, labels in enumerate((["a", "b"], ["billing"], ["billing", "delivery", "other"])):
        with fails_with(BadInput, key="labels", expected=["billing", "delivery"], count=len(labels)):
            pulled(tmp_path / str(number), source, task="classify", labels=labels)
    _, made = pulled(tmp_path / "right", source, task="classify", labels=["delivery", "billing"])
    assert made.labels == ("delivery", "billing")


def test_one_graph_of_several_may_be_named(tmp_path):
    folder = write_onnx(tmp_path / "mine", "embed")
    (folder / "model.onnx").rename(folder / "a.onnx")
    (folder / "b.onnx").write_bytes(b"another")
    with fails_with(BadInput, files=["a.onnx", "b.onnx"]):
        pulled(tmp_path / "1", folder, task="embed")
    _, made = pulled(tmp_path / "2", folder / "a.onnx", task="embed")
    assert [file.path for file in made.files if file.part is Part.WEIGHTS] == ["a.onnx"]
    assert made.options["pooling"] == "mean"


def test_the_task_is_read_from_the_config_where_it_says_one(tmp_path):
    folder = write_onnx(tmp_path / "mine", "tag")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForTokenClassification"]}))
    assert pulled(tmp_path, folder)[1].task == "tag"


@pytest.mark.parametrize(
    ("args", "detail"),
    [
        ({}, {"key": "task"}),
        ({"task": "tag"}, {"task": "tag", "needs": ...}),
        ({"task": "classify", "labels": ["a", "b"]}, {"key": "labels", "width": 3, "count": 2}),
        ({"task": "classify", "engine": "llamacpp"}, {"key": "engine", "value": "llamacpp", "expected": ["onnx"]}),
    ],
    ids=["no task", "another task", "too few labels", "another engine"],
)
def test_what_does_not_fit_is_refused_and_nothing_is_kept(tmp_path, args, detail):
    box = Box(tmp_path / "home")
    with fails_with(BadInput, **detail):
        main(box, box.assignment(str(write_onnx(tmp_path / "mine")), name="graph", **args))
    assert box.store.manifests() == []


def test_a_graph_of_tokens_without_a_tokenizer_is_told_so(tmp_path):
    folder = write_onnx(tmp_path / "mine")
    (folder / "tokenizer.json").unlink()
    with fails_with(BadInput, lacks="tokenizer.json"):
        pulled(tmp_path, folder, task="classify")


def test_a_task_is_declared_of_graphs_alone(tmp_path):
    with fails_with(BadInput, key="task", file="model.safetensors"):
        pulled(tmp_path, write(tmp_path / "mine", ENCODER), task="classify")


def test_numbers_beside_a_graph_come_with_it():
    files = dict(choose_files(["model.onnx", "model.onnx.data", "other.bin", "vocab.txt"], "x"))
    assert files == {"model.onnx": Part.WEIGHTS, "model.onnx.data": Part.WEIGHTS, "vocab.txt": Part.TOKENIZER}
