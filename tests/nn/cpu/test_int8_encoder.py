"""An encoder's layer as one loop gives what the layer's parts give, to the bit."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel

from llmos.abi.cpu import compiler
from llmos.nn.adapters import adapter, changes
from llmos.nn.attention import NAME
from llmos.nn.cpu import cpu_kernels, int8_encoder
from llmos.nn.cpu.fused import fuse
from llmos.nn.cpu.int8_linear import quantize
from llmos.nn.packing import forward, pack
from llmos.testing.tiny import SHARED

pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("each_path"),
    pytest.mark.skipif(compiler() is None, reason="there is no C compiler here, so nothing is compiled"),
]


def made(kind, *, is_int8=True, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(AutoConfig.for_model(kind, **SHARED | more)).eval()
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms' weights of one and biases of zero would hide that they are left out
                parameter.data += torch.randn(parameter.shape) * 0.1
    model.set_attn_implementation(NAME)
    if is_int8:
        quantize(model)
    return model


def whole(model):
    return [layer for layer in model.modules() if hasattr(layer, "is_whole")]


@pytest.fixture(scope="module", params=["bert", "roberta", "electra"])
def both(request, each_path):
    """The same weights, their parts replaced one by one, and as whole layers."""
    parts, layers = made(request.param), made(request.param)
    fuse(parts)
    for layer in whole(parts):
        layer.__class__ = type(layer).__bases__[0]
    fuse(layers)
    assert len(whole(layers)) == layers.config.num_hidden_layers
    assert not whole(parts)
    return parts, layers


def hidden(model, lengths):
    with torch.inference_mode():
        return forward(model, pack([[(5 * i + j) % 90 + 3 for j in range(n)] for i, n in enumerate(lengths)]))


@given(st.lists(st.integers(1, 100), min_size=1, max_size=12), st.sampled_from([1, 2]))
@settings(max_examples=12, deadline=None)
def test_whole_layers_give_the_bits_of_their_parts(both, lengths, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(*(hidden(model, lengths) for model in both))
    finally:
        torch.set_num_threads(before)


def test_a_sequence_has_the_same_bits_alone_and_in_a_row(both):
    lengths = [3, 70, 1, 100]
    ids = [[(7 * i + j) % 90 + 3 for j in range(n)] for i, n in enumerate(lengths)]
    with torch.inference_mode():
        row = forward(both[1], pack(ids)).split(lengths)
        for one, found in zip(ids, row, strict=True):
            assert torch.equal(forward(both[1], pack([one])), found)


def test_a_pass_with_an_adapter_goes_through_the_parts():
    model = made("bert")
    fuse(model)
    layer = model.encoder.layer[0].output.dense
    drawn = torch.Generator().manual_seed(1)
    down, up = (torch.randn(shape, generator=drawn) for shape in ((layer.in_features, 2), (2, layer.out_features)))
    plain = hidden(model, [5, 9])
    with adapter.Adapter((changes.LowRank(layer, down, up, 1.0),)).on():
        assert not torch.allclose(hidden(model, [5, 9]), plain)
    assert torch.equal(hidden(model, [5, 9]), plain)


@pytest.mark.parametrize("more", [{"hidden_act": "relu"}, {"is_decoder": True}])
def test_layers_that_compute_something_else_are_left_alone(more):
    model = made("bert", **more)
    fuse(model)
    assert not whole(model)


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "mpnet", "albert"])
def test_layers_of_another_kind_are_left_alone(kind):
    model = made(kind)
    fuse(model)
    assert not whole(model)


def test_layers_in_float_are_left_alone():
    model = made("bert", is_int8=False)
    fuse(model)
    assert not whole(model)


def test_what_is_no_number_stays_in_its_sequence_and_is_seen_there(both):
    model = both[1]
    table = model.get_input_embeddings().weight
    kept = table[9].clone()
    with torch.inference_mode():
        table[9] = torch.nan
        found = forward(model, pack([[3, 4, 5], [8, 9], [6, 7]])).split([3, 2, 2])
        table[9] = kept
    assert found[0].isfinite().all()
    assert not found[1].isfinite().any()
    assert found[2].isfinite().all()


def test_what_does_not_fit_is_left_to_torch_and_not_computed_beside_its_memory(both):
    layer = both[1].encoder.layer[0]
    hidden(both[1], [2])
    told, loops, width = layer.told.encoder, cpu_kernels.kernels(), both[1].config.hidden_size
    assert isinstance(layer.told, int8_encoder.Told)
    assert loops.encode(told, torch.zeros(3, width), (2, 1)).shape == (3, width)
    for x, lengths in (
        (torch.zeros(3, width), (2, 2)),
        (torch.zeros(3, width), (3, 0)),
        (torch.zeros(3, width + 1), (2, 1)),
        (torch.zeros(3, width).double(), (2, 1)),
    ):
        assert loops.encode(told, x, lengths) is None
