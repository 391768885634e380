"""Layers computed by one loop give what the architecture's own code gives, or are left alone."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from llmos.nn import compiled  # noqa: E402
from llmos.nn.fused import fuse  # noqa: E402
from llmos.testing.tiny import DECODERS, plain  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(compiled.kernels() is None, reason="there is no C compiler here, so nothing was compiled"),
]

IDS = torch.arange(5, 45).unsqueeze(0)


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_decoder_gives_the_same_logits(architecture):
    model = copy.deepcopy(plain(architecture))
    with torch.inference_mode():
        wanted = model(input_ids=IDS).logits
        assert fuse(model) > 3, "its norms at least are replaced"
        torch.testing.assert_close(model(input_ids=IDS).logits, wanted, atol=1e-5, rtol=1e-5)


def test_gradients_flow_as_before():
    ours, theirs = copy.deepcopy(plain("llama")), copy.deepcopy(plain("llama"))
    assert fuse(ours)
    for model in (ours, theirs):
        model.requires_grad_(True)
        model(input_ids=IDS).logits.square().mean().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


class BentRMSNorm(torch.nn.Module):
    """Looks like the others, and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.ones(8)), 1e-6

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.square() * 1.01


class Sized(torch.nn.Module):
    """A feed-forward layer with a gate of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return self.down_proj(self.gate_proj(x).relu() * self.up_proj(x))


@pytest.mark.parametrize("layer", [BentRMSNorm, Sized, torch.nn.LayerNorm])
def test_a_layer_that_computes_something_else_is_left_alone(layer):
    made = layer(8) if layer is torch.nn.LayerNorm else layer()
    assert fuse(made) == 0
    assert type(made) is layer


def test_what_is_no_number_stays_visible():
    model = copy.deepcopy(plain("llama"))
    fuse(model)
    with torch.inference_mode():
        model.model.embed_tokens.weight[7] = torch.nan
        assert model(input_ids=IDS).logits.isnan().any()
