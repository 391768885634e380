"""Loading, resident forms, heads and adapters: weights are shared pages, names are found, what is unsafe is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file

from llmos.abi.error import BadInput, Corrupt, UnsafeWeights
from llmos.nn import resident
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.adapters.head import SequenceHead, TokenHead, load_head, save_head
from llmos.nn.load import load_folder, torch_device, torch_dtype
from llmos.nn.packing import forward, pack
from llmos.testing import tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

ROW = pack([[2, 30, 40, 3], [2, 50, 3]])


@pytest.fixture(scope="module", params=["bert", "roberta", "mpnet", "gemma3_text"])
def folder(request, tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("model") / request.param, request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("model") / "bert", "bert")


def hidden(loaded):
    with torch.inference_mode():
        return forward(loaded.backbone, ROW).float()


def mapped(parameter):
    address = parameter.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(x, 16) for x in line.split()[0].split("-"))
        if first <= address < last:
            return line.endswith(".safetensors")
    return False


def test_a_loaded_model_computes_what_was_saved_on_pages_of_its_file(folder):
    loaded = load_folder(folder)
    kept = tiny.plain(folder.name).base_model
    with torch.inference_mode():
        alone = torch.cat([kept(input_ids=ids[None]).last_hidden_state[0] for ids in ROW.ids[0].split([4, 3])])
    torch.testing.assert_close(hidden(loaded), alone, atol=1e-5, rtol=1e-5)
    assert all(mapped(parameter) for parameter in loaded.backbone.parameters())


def test_what_the_architecture_allows_is_known(folder):
    loaded = load_folder(folder)
    is_decoder = folder.name in tiny.DECODERS
    assert (loaded.causal is not None, loaded.is_causal) == (is_decoder, is_decoder)
    assert loaded.max_tokens == (126 if folder.name in ("roberta", "mpnet") else 128)
    assert loaded.hidden_size == 32
    assert tiny.SEP in loaded.ends


def test_a_trainable_model_has_weights_of_its_own(bert):
    loaded = load_folder(bert, trainable=True)
    assert not any(mapped(parameter) for parameter in loaded.backbone.parameters())
    assert all(parameter.requires_grad for parameter in loaded.backbone.parameters())
    assert loaded.backbone.training


def test_weights_of_a_model_that_wraps_the_backbone_are_found(bert, tmp_path):
    wrapped = tiny.write(tmp_path / "wrapped", "bert")
    weights = load_file(wrapped / "model.safetensors")
    save_file({f"bert.{name}": x for name, x in weights.items()}, wrapped / "model.safetensors", {"format": "pt"})
    torch.testing.assert_close(hidden(load_folder(wrapped)), hidden(load_folder(bert)))


def test_names_of_old_are_translated_once_into_the_resident_form(bert, tmp_path):
    old = tiny.write(tmp_path / "old", "bert")
    weights = load_file(old / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in weights.items()
    }
    save_file(renamed, old / "model.safetensors", {"format": "pt"})
    resident.make(old, "float32", tmp_path / "new")
    torch.testing.assert_close(hidden(load_folder(tmp_path / "new")), hidden(load_folder(bert)))
    assert load_file(tmp_path / "new" / "model.safetensors").keys() == weights.keys()


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_the_resident_form_in_another_dtype_is_mapped_as_it_is(architecture, tmp_path):
    source = tiny.write(tmp_path / "source", architecture)
    resident.make(source, "bfloat16", tmp_path / "out")
    loaded = load_folder(tmp_path / "out", dtype="bfloat16")
    assert all(p.dtype == torch.bfloat16 and mapped(p) for p in loaded.backbone.parameters())
    cosine = torch.cosine_similarity(hidden(loaded), hidden(load_folder(source)), dim=-1)
    assert (cosine > 0.999).all()
    assert loaded.tokenizer.encode(["héllo"])[0].ids == load_folder(source).tokenizer.encode(["héllo"])[0].ids


def test_a_base_that_already_is_its_resident_form_is_linked(bert, tmp_path):
    resident.make(bert, "float32", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").samefile(bert / "model.safetensors")


def test_pickled_weights_are_refused(bert, tmp_path):
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with fails_with(UnsafeWeights, path=tmp_path.name):
        resident.make(tmp_path, "float32", tmp_path / "out")


def test_a_folder_without_weights_is_refused(tmp_path):
    with fails_with(BadInput, lacks="model.safetensors"):
        resident.make(tmp_path, "float32", tmp_path / "out")


def test_cut_weights_are_corrupt(tmp_path):
    cut = tiny.write(tmp_path / "cut", "bert")
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    with fails_with(Corrupt, file=str(cut)):
        resident.make(cut, "float32", tmp_path / "out")


def test_lacking_weights_are_refused(tmp_path):
    lacking = tiny.write(tmp_path / "lacking", "bert")
    weights = load_file(lacking / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})
    with fails_with(BadInput, tensors=["encoder.layer.1.output.dense.weight"]):
        resident.make(lacking, "float32", tmp_path / "out")


def test_a_dtype_that_torch_does_not_have_is_refused():
    with fails_with(BadInput, dtype="int8", expected=...):
        torch_dtype("int8")


def test_our_device_names_become_torchs():
    assert (str(torch_device("cpu0")), str(torch_device("cuda1"))) == ("cpu", "cuda:1")


@pytest.mark.parametrize("head", [SequenceHead(32, 5, "cls"), TokenHead(32, 7)])
def test_a_head_comes_back_as_it_was_saved(head, tmp_path):
    save_head(head, tmp_path)
    again = load_head(tmp_path)
    x = torch.randn(6, 32)
    torch.testing.assert_close(again(x, [2, 4]), head.eval()(x, [2, 4]))
    assert getattr(again, "pooling", None) == getattr(head, "pooling", None)


def test_the_same_head_is_the_same_bytes_each_time_it_is_saved(tmp_path):
    head = SequenceHead(8, 2, "cls")
    assert len({save_head(head, tmp_path).read_bytes() for _ in range(20)}) == 1


@pytest.mark.parametrize(
    ("change", "unsupported"),
    [
        ({"peft_type": "OFT"}, "peft_type"),
        ({"use_qalora": True}, "use_qalora"),
        ({"bias": "all"}, "bias"),
    ],
)
def test_an_adapter_that_adds_more_than_lora_is_refused(bert, tmp_path, change, unsupported):
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"} | change
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({"x": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    with fails_with(BadInput, unsupported=[unsupported]):
        load_adapter(tmp_path, load_folder(bert).backbone)


def test_an_adapter_trained_on_a_model_that_wraps_the_backbone_finds_its_layers(bert, tmp_path):
    name = "base_model.model.bert.encoder.layer.0.attention.self.query"
    pair = {f"{name}.lora_A.weight": torch.ones(2, 32), f"{name}.lora_B.weight": torch.ones(32, 2)}
    save_file(pair, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": True})
    )
    loaded = load_folder(bert)
    adapter = load_adapter(tmp_path, loaded.backbone)
    plain = hidden(loaded)
    with adapter.on():
        changed = hidden(loaded)
    assert not torch.allclose(plain, changed)
    torch.testing.assert_close(hidden(loaded), plain)
    assert adapter.layers[0].scale == pytest.approx(4 / 2**0.5)
