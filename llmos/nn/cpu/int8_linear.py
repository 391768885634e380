"""int8 linear layers: weights quantized once, activations quantized on the fly, integer accumulation, float output.

Every BLOCK of an output's weights has its own scale, and so has every BLOCK of a token's inputs: an outlier affects its
own block alone. A token's result does not depend on the other tokens in the batch, because integer sums have no order.
A CPU without VNNI adds four products in 16 bits; the scales are chosen so that this cannot overflow, and all CPUs give
the same numbers. Without the C kernel the same rounded numbers are multiplied as floats. // Weights that are 4-bit
numbers already (nn/cpu/int4.py) stay in 4 bits: then only the inputs are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from transformers.pytorch_utils import Conv1D

from llmos.abi.error import BadInput, Corrupt
from llmos.nn.cpu import int4
from llmos.nn.cpu.cpu_kernels import BLOCK, Kernels, kernels
from llmos.nn.cpu.cpu_kernels import Product as Packed
from llmos.nn.cpu.few_row_matmul import TransposedWeights
from llmos.nn.cpu.int4 import FINE, Int4Weights

LEVELS = 127
REACH = 128  # limit of the sum of four weights of one sign that the kernel adds at once: 255 * 128 < 2^15
LEAST_OUTPUTS = 16  # smaller layers (a router of experts, a score) stay float: they decide much and cost little
SMALLEST = 1e-12  # a block of zeros still needs a scale
WEIGHT, SCALE, LEAST = ".weight", ".weight_scale", ".weight_least"

Product = Callable[[Tensor], Tensor]  # [..., in] -> [..., out]


class QuantizedRows(NamedTuple):
    """A layer's weights, [out, in] in int8, and the scale of each block of an output, [out, blocks]."""

    values: Tensor
    scales: Tensor


Weights = QuantizedRows | Int4Weights


class Int8(nn.Linear):
    """A linear layer whose weights are packed for the kernel. They are not parameters, so nothing trains them."""

    bias: nn.Parameter | None  # type: ignore[assignment]  # Linear says that it always has one

    def __init__(self, weights: Weights, bias: Tensor | None, *, is_compiled: bool = True) -> None:
        nn.Module.__init__(self)  # Linear's own would make float weights
        self.is_nibbles = isinstance(weights, Int4Weights)
        self.out_features = len(weights[0])
        self.in_features = weights[0].shape[1] * (2 if self.is_nibbles else 1)
        self._weights = weights
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        loops = kernels() if is_compiled else None
        in_floats = 4 * self.out_features * self.in_features
        self.size_bytes = sum(x.nbytes for x in weights) if loops else in_floats
        self.packed = _pack(loops, weights, self.bias) if loops else None
        self._plain: Product | None = None if self.packed else _in_floats(weights, self.bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # Linear has a parameter there, which this layer has not
        """The weights as floats, converted at each access."""
        return plain(self._weights)

    def forward(self, input: Tensor) -> Tensor:
        made = self.packed(input) if self.packed is not None else None
        if made is None:
            made = (self._plain or _in_floats(self._weights, self.bias))(input)
        return made


def _pack(loops: Kernels, weights: Weights, bias: Tensor | None) -> Packed:
    return (
        loops.product_of_nibbles(weights, bias) if isinstance(weights, Int4Weights) else loops.product(*weights, bias)
    )


def quantize(model: nn.Module, *, keep: Collection[str] = ()) -> None:
    """Replace the model's float linear layers by integer ones, except those at the paths in `keep`."""
    put(model, {path: quantize_layer(layer) for path, layer in eligible(model) if path not in keep})


def eligible(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that int8 supports, by path: those with a weight matrix, in either orientation."""
    for path, layer in model.named_modules():
        if type(layer) in (nn.Linear, TransposedWeights, Conv1D) and len(matrix(layer)) >= LEAST_OUTPUTS:
            yield path, layer


def matrix(layer: nn.Module) -> Tensor:
    """The layer's weights, [out, in]."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach().T if isinstance(layer, Conv1D) else weight.detach()


@torch.inference_mode()
def quantize_layer(layer: nn.Module) -> Weights:
    """The layer's weights in 4 bits if that is exact; else in int8, with a scale for each block of an output."""
    whole = matrix(layer).float()
    if (kept := int4.recover_int4(whole)) is not None:
        return kept
    if not bool(whole.isfinite().all()):
        raise BadInput(
            "The weights have numbers that are not finite (NaN or infinite). Bring the model in again",
            reason="not_finite",
        )
    blocks = _blocks(whole)
    reach = _reach(blocks).amax(-1, keepdim=True)
    scales = torch.maximum(_scales(blocks), reach / REACH)
    is_over = _reach((blocks / scales).round()).amax(-1, keepdim=True) > REACH  # rounding adds at most a half to each
    scales = torch.where(is_over, torch.maximum(_scales(blocks), reach / (REACH - 2)), scales)
    values = (blocks / scales).round().to(torch.int8)
    return QuantizedRows(values.flatten(-2)[:, : whole.shape[1]].contiguous(), scales.squeeze(-1))


def plain(weights: Weights) -> Tensor:
    """The weights as floats, [out, in]."""
    if isinstance(weights, Int4Weights):
        return int4.plain(weights)
    values, scales = weights
    return values * scales.repeat_interleave(BLOCK, 1)[:, : values.shape[1]]


def _blocks(x: Tensor, size: int = BLOCK) -> Tensor:
    """[..., n] -> [..., blocks, size]; the last block is padded with zeros."""
    return pad(x, (0, -x.shape[-1] % size)).view(*x.shape[:-1], -1, size)


def _scales(blocks: Tensor) -> Tensor:
    """The scale of each block, [..., size] -> [..., 1]: the value of one of LEVELS steps."""
    return blocks.abs().amax(-1, keepdim=True).clamp_min(SMALLEST) / LEVELS


def _reach(blocks: Tensor) -> Tensor:
    """[..., BLOCK] -> [..., BLOCK / 4]: the largest absolute sum of each group of four, for inputs from 0 to 1.

    A group is two neighbours and the two that stand four behind them, because the kernel adds eight inputs as two
    fours.
    """
    fours = blocks.view(*blocks.shape[:-1], -1, 2, 2, 2)
    up, down = (x.clamp_min(0).sum((-3, -1)).flatten(-2) for x in (fours, -fours))
    return torch.maximum(up, down)


def furthest_reach(values: Tensor) -> int:
    """The largest absolute sum of such a group in an int8 matrix."""
    return int(_reach(_blocks(values.int())).max())


def put(model: nn.Module, layers: Mapping[str, Weights]) -> None:
    """Install integer layers with these weights at these paths of the model."""
    made: dict[nn.Module, Int8] = {}
    for path, weights in layers.items():
        layer = model.get_submodule(path)
        bias = layer.bias
        assert bias is None or isinstance(bias, Tensor)
        made[layer] = Int8(weights, bias)
    for path, layer in list(model.named_modules(remove_duplicate=False)):
        if layer in made:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, made[layer])


def weights_bytes(model: nn.Module) -> int:
    """The bytes of the packed weights in this model."""
    return sum(layer.size_bytes for layer in model.modules() if isinstance(layer, Int8))


# The int8 form in a file: `<layer>.weight` in int8 with `<layer>.weight_scale`, or in uint8, two numbers in a byte,
# with `<layer>.weight_scale` and `<layer>.weight_least`; all other tensors in one float dtype (abi/form.py).


def is_form(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of an int8 form."""
    return any(name.endswith(SCALE) for name in weights)


def form_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the int8 form for the layers of a float model."""
    form: dict[str, Tensor] = {}
    for path, layer in eligible(model):
        form |= zip((path + end for end in (WEIGHT, SCALE, LEAST)), quantize_layer(layer), strict=False)
    return form


def layers_of(weights: Mapping[str, Tensor], model: nn.Module, name: str) -> dict[str, Weights]:
    """The integer layers in a form's tensors, by path; Corrupt that names the first malformed one."""
    there = dict(eligible(model))
    found: dict[str, Weights] = {}
    for key in weights:
        if not key.endswith(SCALE):
            continue
        path = key.removesuffix(SCALE)
        kept = _keep_layer(weights, path)
        if kept is None or path not in there or not _is_sound(kept, matrix(there[path])):
            raise Corrupt(f"{name} has an int8 layer {path} that this model cannot have. Remove it: it is made again")
        found[path] = kept
    return found


def _keep_layer(weights: Mapping[str, Tensor], path: str) -> Weights | None:
    values, scales, least = (weights.get(path + end) for end in (WEIGHT, SCALE, LEAST))
    if values is None or scales is None:
        return None
    return QuantizedRows(values, scales) if least is None else Int4Weights(values, scales, least)


def _is_sound(weights: Weights, like: Tensor) -> bool:
    if isinstance(weights, Int4Weights):
        return int4.is_sound(weights, (len(like), like.shape[1]))
    values, scales = weights
    if values.dtype is not torch.int8 or scales.dtype is not torch.float32:
        return False
    if values.shape != like.shape or scales.shape != (len(like), -(-like.shape[1] // BLOCK)):
        return False
    loops = kernels()
    furthest = loops.reach(values) if loops else furthest_reach(values)
    return furthest <= REACH and bool((scales.isfinite() & (scales > 0)).all())


def _in_floats(weights: Weights, bias: Tensor | None) -> Product:
    """The same rounded numbers multiplied as floats, if there is no C kernel. It is no faster than float32."""
    whole, size = plain(weights), FINE if isinstance(weights, Int4Weights) else BLOCK

    def compute(x: Tensor) -> Tensor:
        blocks = _blocks(x.float(), size)
        scales = _scales(blocks)
        near = ((blocks / scales).round() * scales).flatten(-2)[..., : x.shape[-1]]
        return linear(near, whole, None if bias is None else bias.float()).to(x.dtype)

    return compute
