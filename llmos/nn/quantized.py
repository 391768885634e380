"""Linear layers in 8-bit integers: weights quantized once, inputs row by row on the way, integer sums, floats out.

A row's answer does not depend on the rows beside it: each has a scale of its own, and sums of integers have no order.
The kernel is ours (kernels.c) where it was compiled, else fbgemm's. Both add neighbouring products in 16 bits where a
CPU has no VNNI, which saturates with weights of 8 bits; with 7 bits it cannot, so that every CPU computes the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from llmos.abi.error import BadInput, Corrupt
from llmos.nn.compiled import kernels
from llmos.nn.product import Turned

DTYPE = "int8"
ENGINE = "fbgemm"
WEIGHT_LEVELS = 63  # 2 * 255 * 63 < 2^15
INPUT_LEVELS, INPUT_ZERO = 127, 128
LEAST_OUTPUTS = 16  # a layer with fewer (a router of experts, a score) decides much and costs nothing: it stays float
SMALLEST = 1e-12  # a row or a channel of zeros still needs a scale
WEIGHT, SCALE = ".weight", ".weight_scale"

Product = Callable[[Tensor], Tensor]  # [..., in] -> [..., out]


class Quantized(NamedTuple):
    """A layer's weights, [out, in] in int8, and what each output's are multiplied with, [out]."""

    values: Tensor
    scales: Tensor


class Int8(nn.Linear):
    """A linear layer whose weights are packed for the kernel. They are not parameters: nothing trains them."""

    bias: nn.Parameter | None  # type: ignore[assignment]  # Linear says that it always has one

    def __init__(self, weights: Quantized, bias: Tensor | None, *, is_compiled: bool = True) -> None:
        nn.Module.__init__(self)  # Linear's own would make float weights
        values, scales = weights
        self.out_features, self.in_features = values.shape
        self.size_bytes = values.nbytes + scales.nbytes
        self._values = values  # as they lie in the file: nothing computes with them
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._scales = scales
        loops = kernels() if is_compiled else None
        self._product: Product = _fbgemm(weights, self.bias) if loops is None else loops.product(*weights, self.bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # Linear has a parameter there, which this layer has not
        """The weights as plain numbers again, made each time that it is asked."""
        return self._values * self._scales[:, None]

    def forward(self, input: Tensor) -> Tensor:
        return self._product(input)


def quantize(model: nn.Module, *, keep: Collection[str] = ()) -> None:
    """Put integer layers in the place of the model's float ones, but for those at the paths to keep."""
    put(model, {path: quantized(layer) for path, layer in eligible(model) if path not in keep})


def eligible(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that can compute in integers, by path: products with weights, whichever way round they are kept."""
    for path, layer in model.named_modules():
        if type(layer) in (nn.Linear, Turned, Conv1D) and len(matrix(layer)) >= LEAST_OUTPUTS:
            yield path, layer


def matrix(layer: nn.Module) -> Tensor:
    """The layer's weights, [out, in]."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach().T if isinstance(layer, Conv1D) else weight.detach()


@torch.inference_mode()
def quantized(layer: nn.Module) -> Quantized:
    """The layer's weights rounded, each output with a scale of its own."""
    whole = matrix(layer).float()
    peaks = whole.abs().amax(1).clamp_min_(SMALLEST)
    if not bool(peaks.isfinite().all()):
        raise BadInput("The weights have numbers that are not finite (NaN or infinite). Bring the model in again")
    scales = peaks / WEIGHT_LEVELS
    return Quantized((whole / scales[:, None]).round_().to(torch.int8).contiguous(), scales)


def put(model: nn.Module, layers: Mapping[str, Quantized]) -> None:
    """Put integer layers of these weights in the place of the layers at these paths."""
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


# The form in a file: `<layer>.weight` in int8 beside `<layer>.weight_scale`, everything else as it is.


def is_form(weights: Mapping[str, Tensor]) -> bool:
    """These are the tensors of a model whose linear layers are in int8."""
    return any(name.endswith(SCALE) for name in weights)


def form_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors to write for the layers of a float model."""
    form: dict[str, Tensor] = {}
    for path, layer in eligible(model):
        form[path + WEIGHT], form[path + SCALE] = quantized(layer)
    return form


def layers_of(weights: Mapping[str, Tensor], model: nn.Module, name: str) -> dict[str, Quantized]:
    """The integer layers in a form's tensors, by path; Corrupt, naming the first, if one is not what this makes."""
    there = dict(eligible(model))
    found: dict[str, Quantized] = {}
    for key, scales in weights.items():
        if not key.endswith(SCALE):
            continue
        path = key.removesuffix(SCALE)
        values = weights.get(path + WEIGHT)
        if values is None or path not in there or not _is_sound(values, scales, matrix(there[path])):
            raise Corrupt(f"{name} has an int8 layer {path} that this model cannot have. Remove it: it is made again")
        found[path] = Quantized(values, scales)
    return found


def _is_sound(values: Tensor, scales: Tensor, like: Tensor) -> bool:
    if values.dtype is not torch.int8 or scales.dtype is not torch.float32:
        return False
    if values.shape != like.shape or scales.shape != like.shape[:1]:
        return False
    is_in_range = int(values.min()) >= -WEIGHT_LEVELS and int(values.max()) <= WEIGHT_LEVELS
    return is_in_range and bool((scales.isfinite() & (scales > 0)).all())


def _fbgemm(weights: Quantized, bias: Tensor | None) -> Product:
    values, scales = weights
    zeros = torch.zeros(len(scales), dtype=torch.long)
    with _engine(), warnings.catch_warnings():
        # Torch is to lose tensors that are quantized themselves; it is pinned, and its kernel takes weights as nothing
        # else. The layers that one pass computes with are no such tensors.
        warnings.filterwarnings("ignore", ".*quantized tensor creation", UserWarning)
        whole = torch._make_per_channel_quantized_tensor(values, scales.double(), zeros, 0)
        packed = torch.ops.quantized.linear_prepack(whole, None)
    product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32

    def compute(rows: Tensor) -> Tensor:
        peaks = rows.abs().amax(-1, keepdim=True).clamp_min_(SMALLEST)
        out: Tensor = product(rows / peaks, 1 / INPUT_LEVELS, INPUT_ZERO, packed).mul_(peaks)
        return out if bias is None else out.add_(bias)

    return compute


@contextmanager
def _engine() -> Iterator[None]:
    """Within, torch packs for our kernel; a CPU that it is not made for is refused."""
    backends = torch.backends.quantized
    if ENGINE not in backends.supported_engines:
        has = ", ".join(backends.supported_engines)
        raise BadInput(f"int8 needs torch's {ENGINE}, which is made for x86; here are: {has}. Serve in float32")
    before = backends.engine
    backends.engine = ENGINE
    try:
        yield
    finally:
        backends.engine = before
