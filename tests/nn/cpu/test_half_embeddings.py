"""What an int8 form keeps beside its integers: in bfloat16 half as large, and computed in float32 all the same."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel

from llmos.nn import resident
from llmos.nn.cpu import half_embeddings
from llmos.nn.cpu.cpu_kernels import kernels
from llmos.nn.cpu.half_embeddings import HalfEmbeddings
from llmos.nn.cpu.int8_linear import Int8
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack
from llmos.testing import tiny

pytestmark = pytest.mark.torch
SHORT = "int8-bfloat16"
INTEGERS = (torch.int8, torch.uint8)
ROW = pack([[2, 30, 40, 3], [2, 50, 3]])


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert", "modernbert", "llama", "qwen3", "gemma3_text"])
def forms(request, tmp_path_factory):
    """An architecture's folder, and its forms in int8 with the rest in float32 and in bfloat16."""
    root = tmp_path_factory.mktemp("table")
    source = tiny.write(root / request.param, request.param)
    for dtype in ("int8", SHORT):
        resident.make(source, dtype, root / dtype)
    return source, root / "int8", root / SHORT


def whole(loaded):
    return loaded.causal or loaded.backbone


def hidden(loaded, row=ROW):
    with torch.inference_mode():
        return forward(loaded.backbone, row)


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def is_rest(name, weights):
    is_layer = f"{name.removesuffix('.weight')}.weight_scale" in weights
    return weights[name].is_floating_point() and not is_layer and ".weight_" not in name


def test_all_but_the_integers_and_their_scales_is_in_bfloat16(forms):
    _, long, short = map(weights_of, forms)
    assert short.keys() == long.keys()
    for name, x in short.items():
        if is_rest(name, short):
            assert torch.equal(x, long[name].bfloat16())
        else:
            assert x.dtype == long[name].dtype != torch.bfloat16
            assert torch.equal(x, long[name])


def test_it_computes_to_the_bit_what_the_rounded_numbers_give_in_float32(forms, tmp_path):
    source, long, short = forms
    weights = weights_of(long)
    near = {name: x.bfloat16().float() if is_rest(name, weights) else x for name, x in weights.items()}
    for file in long.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(near, tmp_path / "model.safetensors", {"format": "pt"})
    given = hidden(load_folder(short, dtype=SHORT))
    assert given.dtype == torch.float32
    assert torch.equal(given, hidden(load_folder(tmp_path, dtype="int8")))
    assert torch.cosine_similarity(given, hidden(load_folder(source)), dim=-1).min() > 0.97
    assert torch.equal(given, hidden(load_folder(source, dtype=SHORT)))  # made where there is no form


def test_tables_stay_as_they_are_in_the_file_and_nothing_else_is_short_of_float32(forms):
    _, _, short = forms
    loaded = load_folder(short, dtype=SHORT)
    model = whole(loaded)
    tables = [layer for layer in model.modules() if isinstance(layer, nn.Embedding)]
    assert tables
    assert all(isinstance(one, HalfEmbeddings) and one.rows.dtype == torch.bfloat16 for one in tables)
    assert {x.dtype for x in (*model.parameters(), *model.buffers()) if x.is_floating_point()} == {torch.float32}
    assert model.dtype == torch.float32
    assert not [layer for layer in model.modules() if type(layer) is nn.Linear]
    if kernels() is not None:  # where nothing was compiled the integers are held as floats
        held = weights_of(short)
        small = sum(x.nbytes for name, x in held.items() if is_rest(name, held) and name not in table_names(model))
        assert loaded.weights_bytes == sum(x.nbytes for x in held.values()) + small


def table_names(model):
    return {f"{path}.weight" for path, layer in model.named_modules() if isinstance(layer, HalfEmbeddings)}


def test_an_answer_alone_is_that_in_a_row(forms):
    loaded = load_folder(forms[2], dtype=SHORT)
    alone = torch.cat([hidden(loaded, pack([ids.tolist()])) for ids in ROW.ids[0].split(list(ROW.lengths))])
    torch.testing.assert_close(hidden(loaded), alone, atol=2e-2, rtol=2e-2)  # attention's sums are floats


def test_integers_of_a_tied_layer_are_of_the_numbers_that_were_not_rounded(tmp_path):
    source = tiny.write(tmp_path / "llama", "llama")
    causal = [load_folder(source, dtype=dtype).causal for dtype in ("int8", SHORT)]
    assert all(isinstance(one.lm_head, Int8) for one in causal)
    assert torch.equal(causal[0].lm_head.weight, causal[1].lm_head.weight)
    wanted = tiny.plain("llama").model.embed_tokens.weight.bfloat16().float()
    assert torch.equal(causal[1].model.embed_tokens.weight, wanted)


def test_of_a_small_encoder_with_many_words_int8_is_smaller_than_bfloat16(tmp_path):
    """A third of it is embeddings, as MiniLM's are."""
    tiny.write(tmp_path / "source", "bert")
    config = AutoConfig.for_model(
        "bert", **tiny.SHARED | {"vocab_size": 3052, "hidden_size": 128, "intermediate_size": 512}
    )
    torch.manual_seed(0)
    AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(tmp_path / "source")
    sizes = {}
    for dtype in ("float32", "bfloat16", "int8", SHORT):
        resident.make(tmp_path / "source", dtype, tmp_path / dtype)
        sizes[dtype] = (tmp_path / dtype / "model.safetensors").stat().st_size
    assert sizes[SHORT] < sizes["bfloat16"] < sizes["float32"]
    assert sizes[SHORT] < sizes["int8"]


class Scaled(nn.Embedding):
    """A table that says the scale of its rows in the dtype of its rows, as Gemma's does."""

    def forward(self, input):
        return super().forward(input) * torch.tensor(1.001).to(self.weight.dtype)


class Counting(nn.Embedding):
    """A table that is asked by something else than its rows' numbers, as OPT's positions are."""

    def forward(self, input):
        return super().forward(input.cumsum(-1).clamp(max=self.num_embeddings - 1))


@pytest.mark.parametrize(("kind", "is_kept"), [(nn.Embedding, True), (Scaled, True), (Counting, False)])
def test_a_table_of_any_class_gives_what_the_same_rows_give_in_float32(kind, is_kept):
    torch.manual_seed(1)
    plain = kind(9, 4, padding_idx=1)
    plain.weight.data = plain.weight.data.bfloat16()
    held = nn.Sequential(copy.deepcopy(plain))
    plain.weight.data = plain.weight.data.float()
    half_embeddings.hold(held)
    assert isinstance(held[0], HalfEmbeddings) == is_kept
    ids = torch.tensor([[8, 1, 1], [0, 3, 2]])
    assert torch.equal(held(ids), plain(ids))
    assert held(ids[:0]).shape == (0, 3, 4)
    assert half_embeddings.tables_bytes(held) == (9 * 4 * 2 if is_kept else 0)
