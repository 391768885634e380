"""Linear layers of a frozen base in fewer bits, for training what stands on them: int4, int8, or floats.

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
from torch.nn import functional

from llmos.abi.heap import give_back
from llmos.nn.cpu.few_row_matmul import TransposedWeights
from llmos.nn.held_weight import ROUNDED, HeldFloats, HeldWeight, hold

MADV_DONTNEED = 4
COPIED = (nn.Linear, TransposedWeights)


class FrozenLinear(nn.Linear):
    """A linear layer with a weight that is no parameter but `held`. `published` is the weight as it was read."""

    held: HeldWeight  # in objects of their own, so that they are no part of the model's state
    published: HeldFloats
    is_exact: bool
    plain_class: type[nn.Linear]  # what it was before

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # Linear has a parameter there, which this has not
        """The weight as the layer computes with it, made anew in float32: for those that look at it."""
        return (self.published if self.is_exact else self.held).plain()

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        held = self.published if self.is_exact else self.held
        bias = None if self.bias is None else self.bias.to(input.dtype)
        is_kept = isinstance(held, HeldFloats) and held.weight.dtype == input.dtype
        if isinstance(held, HeldFloats) and (is_kept or not torch.is_grad_enabled()):
            return functional.linear(input, held.weight.to(input.dtype), bias)  # the same bits as any linear layer
        product: Tensor = _Product.apply(input, held)  # type: ignore[no-untyped-call]  # torch's
        return product if bias is None else product + bias


class _Product(torch.autograd.Function):
    """`x @ weight.T`; the weight is brought to the dtype of `x` for the product alone."""

    @staticmethod
    def forward(context: Any, x: Tensor, held: HeldWeight) -> Tensor:  # Any: autograd's context
        context.held = held  # not `save_for_backward`: it is the layer's own, and never changes
        return held.product(x)

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor, None]:  # Any: as in forward
        (dy,) = outer
        return context.held.back(dy), None


def freeze_linears(backbone: nn.Module, dtype: str) -> int:
    """Turn the linear layers of a frozen model into these, in int4, int8 or a dtype of floats; returns how many."""
    layers = [one for one in backbone.modules() if type(one) is nn.Linear]
    for layer in layers:
        assert not layer.weight.requires_grad, "a weight that is trained stays in float32"
        _freeze(layer, dtype)
        if dtype in ROUNDED:
            _drop_pages(_frozen(layer).published.weight)
    if dtype in ROUNDED:
        give_back()  # of the weights in float32 that were rounded
    return len(layers)


class CopiedLinears:
    """The frozen linear layers of a base, which compute in copies while something is trained: the same bits as autocast
    makes in each pass, made once. `but` stays as it is.

    Layers that were turned for few rows compute as plain ones meanwhile: a stopwatch decides which are turned, and what
    is learned must not follow from it.
    """

    def __init__(self, backbone: nn.Module, dtype: str, but: nn.Module | None = None, *, is_used: bool = True) -> None:
        self._dtype = dtype
        self._layers = [
            one
            for one in (backbone.modules() if is_used else ())
            if isinstance(one, nn.Linear) and type(one) in COPIED and one is not but and _is_frozen_float(one.weight)
        ]

    def __len__(self) -> int:
        """How many layers have a copy."""
        return len(self._layers)

    def release(self) -> None:
        """Have no copies: autocast makes its own in each pass."""
        self._layers = []

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside this block, the layers compute with the copies."""
        for one in self._layers:
            _freeze(one, self._dtype)
        try:
            yield
        finally:
            for one in self._layers:
                _thaw(one)


def _is_frozen_float(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and not weight.requires_grad


def _freeze(layer: nn.Linear, dtype: str) -> None:
    published = layer._parameters.pop("weight")
    assert published is not None
    frozen: Any = layer  # Any: a Linear until its class is set
    frozen.plain_class, frozen.__class__ = type(layer), FrozenLinear
    frozen.published, frozen.is_exact = HeldFloats(published), False
    frozen.held = hold(published.detach(), dtype)


def _thaw(layer: nn.Linear) -> None:
    """The layer as it was, with the same parameters in the same order."""
    frozen = _frozen(layer)
    weight, bias, before = frozen.published.weight, layer._parameters.pop("bias"), frozen.plain_class
    for name in ("held", "published", "is_exact", "plain_class"):
        delattr(layer, name)
    layer.__class__ = before
    assert isinstance(weight, nn.Parameter)
    layer._parameters.update(weight=weight, bias=bias)


def _frozen(layer: nn.Linear) -> FrozenLinear:
    assert isinstance(layer, FrozenLinear)
    return layer


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
