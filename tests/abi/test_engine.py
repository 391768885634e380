"""Which engine answers for a model, and what is said where one cannot."""

import pytest

from llmos.abi.device import Device
from llmos.abi.engine import ENGINES, device_for, engine_of
from llmos.abi.error import BadInput
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.engines import DRIVERS
from llmos.testing.errors import fails_with


def base(path, task="chat", kind=Kind.BASE, **options):
    return Manifest("m", 1, kind, task, (File(path, "0" * 64, 1, Part.WEIGHTS),), options=options)


GGUF, SAFE, GRAPH = base("a.gguf"), base("model.safetensors"), base("model.onnx", "classify", engine="onnx")


def test_every_engine_has_a_driver():
    assert set(ENGINES) == set(DRIVERS)


def test_the_one_asked_for_comes_before_the_manifest_s_and_that_before_the_box_s():
    named = base("a.gguf", engine="llamacpp")
    assert engine_of(named, "pytorch", "null") == "pytorch"
    assert engine_of(named, None, "null") == "llamacpp"
    assert engine_of(GGUF, None, "llamacpp") == "llamacpp"
    assert engine_of(GGUF) == "pytorch"
    assert engine_of(GRAPH, None, "llamacpp") == "onnx"


@pytest.mark.parametrize(
    "manifest",
    [
        SAFE,
        base("a.gguf", "embed"),
        base("adapter.safetensors", kind=Kind.MODEL),
        Manifest("m", 1, Kind.MODEL, "chat", ()),
    ],
    ids=["safetensors", "an encoder", "trained", "an adapter"],
)
def test_what_the_box_s_own_engine_cannot_serve_is_pytorch_s(manifest):
    assert engine_of(manifest, None, "llamacpp") == "pytorch"


@pytest.mark.parametrize(
    ("manifest", "asked", "able"),
    [
        (SAFE, "llamacpp", ["pytorch", "vllm"]),
        (GGUF, "vllm", ["pytorch", "llamacpp"]),
        (base("a.gguf", "embed"), "llamacpp", ["pytorch"]),
        (base("x", kind=Kind.MODEL), "vllm", ...),
        (GRAPH, "pytorch", ["onnx"]),
        (base("a.safetensors", "generate", tasks=["translate", "generate"]), "vllm", ["pytorch"]),
        (GGUF, "bogus", ["pytorch", "llamacpp"]),
    ],
)
def test_an_engine_that_cannot_serve_a_model_is_refused_with_those_that_can(manifest, asked, able):
    with fails_with(BadInput, key="engine", value=asked, model=manifest.ref, expected=able):
        engine_of(manifest, asked)


def test_an_engine_computes_where_it_can():
    cpu, gpu = Device("cpu0", "cpu", "A processor", 1), Device("cuda0", "cuda", "A GPU", 1)
    assert device_for("pytorch", [cpu, gpu]) == gpu
    assert device_for("llamacpp", [cpu, gpu]) == cpu
    assert device_for("vllm", [cpu, gpu]) == gpu
    with fails_with(BadInput, key="engine", value="vllm", kind="cuda"):
        device_for("vllm", [cpu])
