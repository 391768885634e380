"""Linear layers of a frozen base in fewer bits, for training what stands on them: int8, or floats.

A layer's product is computed in the dtype of its inputs; gradients flow through it to what is trained, and none to its
weight. Its weight in floats exists only while the layer computes: autograd keeps the integers, which all layers have
anyway. The published weights stay mapped to their file, and `exactly` computes with them: what is measured is what is
served. Idea: Dettmers et al. 2023, arXiv:2305.14314, who keep 4 bits.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.form import INT8
from llmos.abi.heap import give_back

MOST = 127
MADV_DONTNEED = 4


class FrozenLinear(nn.Linear):
    """A linear layer with a weight that is no parameter: `held` [outputs, inputs], times `scale` [outputs] if there is
    one. `published` is the weight as it was read."""

    held: tuple[Tensor, Tensor | None]  # in tuples, so that they are no part of the model's state
    published: tuple[Tensor, None]
    is_exact: bool

    @property
    def _weight_in_use(self) -> tuple[Tensor, Tensor | None]:
        return self.published if self.is_exact else self.held

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # Linear has a parameter there, which this has not
        """The weight as the layer computes with it, made anew in float32: for those that look at it."""
        held, scale = self._weight_in_use
        return held.float() if scale is None else held.float() * scale[:, None]

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        product: Tensor = _Product.apply(input, *self._weight_in_use)  # type: ignore[no-untyped-call]  # torch's
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """`x @ (weight * scale).T`; the weight is brought to the dtype of `x` for the product alone."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:  # Any: autograd's context
        context.held = weight, scale  # not `save_for_backward`: they are the layer's own, and never change
        y = x @ weight.to(x.dtype).T
        return y if scale is None else y * scale.to(x.dtype)

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor, None, None]:  # Any: as in forward
        weight, scale = context.held
        (dy,) = outer
        dy = dy if scale is None else dy * scale.to(dy.dtype)
        return dy @ weight.to(dy.dtype), None, None


def freeze_linears(backbone: nn.Module, dtype: str) -> int:
    """Turn the linear layers of a frozen model into these, in int8 or a dtype of floats; returns how many.

    In int8 a weight is rounded to a step of 1/127 of the largest of its output.
    """
    layers = [one for one in backbone.modules() if type(one) is nn.Linear]
    for layer in layers:
        assert not layer.weight.requires_grad, "a weight that is trained stays in float32"
        published = layer.weight.data
        del layer._parameters["weight"]
        frozen: Any = layer  # Any: a Linear until its class is set
        frozen.__class__ = FrozenLinear
        frozen.published, frozen.is_exact = (published, None), False
        if dtype == INT8:
            frozen.held = _round_outputs(published)
            _drop_pages(published)
        else:
            frozen.held = published.to(getattr(torch, dtype)), None
    if dtype == INT8:
        give_back()  # of the weights in float32 that were rounded
    return len(layers)


def _round_outputs(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [outputs, inputs] and a scale in float32 for each output."""
    exact = weight.float()
    scale = exact.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / MOST
    return (exact / scale[:, None]).round().to(torch.int8), scale


@contextmanager
def exactly(model: nn.Module) -> Iterator[None]:
    """Inside this block the model's frozen layers compute with the published weights."""
    layers = [one for one in model.modules() if isinstance(one, FrozenLinear)]
    for one in layers:
        one.is_exact = True
    try:
        yield
    finally:
        for one in layers:
            one.is_exact = False


def _drop_pages(tensor: Tensor) -> None:
    """Give back the memory of a tensor that is mapped to a file, whose pages are read again when they are used."""
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last and _is_mapped_file(first, last):
        ctypes.CDLL(None, use_errno=True).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)


def _is_mapped_file(first: int, last: int) -> bool:
    """Whether one unchanged mapping of a file holds all these addresses."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, _, _, _, inode, *path = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= first and last <= end:
                return inode != "0" and bool(path) and path[0].strip().endswith(".safetensors")
    return False
