"""Changes: what an adapter does to one layer of the base, token by token. Methods differ in them; mixing does not.

A change sees some tokens of a packed row and gives the layer's output for them, so any of them can stand in a row with
others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLD_FROM = 1.25  # Merge from this many times in * out / (in + out) tokens on; measured, see docs/log.md.


class Change(Protocol):
    """What an adapter does to one layer."""

    @property
    def layer(self) -> nn.Module: ...

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it holds in memory; layers may share some."""
        ...

    def is_whole(self, tokens: int) -> bool:
        """Whether for so many tokens it computes the layer's output from the input; else it edits the base's."""
        ...

    def compute(self, x: Tensor) -> Tensor:
        """The layer's output with the change, for an input of any shape; gradients may pass."""
        ...

    def write(self, x: Tensor, out: Tensor) -> None:
        """`compute` into `out`, [tokens, out], from x, [tokens, in]."""
        ...

    def edit(self, x: Tensor, out: Tensor) -> None:
        """Change `out`, which holds the base's output for x, in place."""
        ...


class LowRank(NamedTuple):
    """Adds `scale * (x @ down) @ up`; down is [in, rank], up [rank, out] (LoRA, Hu et al. 2021, arXiv:2106.09685)."""

    layer: nn.Module
    down: Tensor
    up: Tensor
    scale: float

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.down, self.up

    def is_whole(self, tokens: int) -> bool:
        """Whether merged weights are cheaper than two low-rank products for this many tokens.

        Only in float32: in fewer bits, rounding the merged weight could erase the change.
        """
        if type(self.layer) is not nn.Linear or self.layer.weight.dtype != torch.float32:
            return False
        wide, high = self.layer.weight.shape
        return tokens * (wide + high) > FOLD_FROM * wide * high

    def compute(self, x: Tensor) -> Tensor:
        if self.is_whole(x.numel() // x.shape[-1]) and not torch.is_autocast_enabled(x.device.type):
            return functional.linear(x, self._merge(), self.layer.bias)  # type: ignore[arg-type]  # it is a Linear's
        return torch.add(plain_output(self.layer, x), (x @ self.down) @ self.up, alpha=self.scale)

    def write(self, x: Tensor, out: Tensor) -> None:
        linear_into(x, self._merge().T, self.layer.bias, out)  # type: ignore[arg-type]  # it is a Linear's

    def edit(self, x: Tensor, out: Tensor) -> None:
        out.addmm_(x @ self.down, self.up, alpha=self.scale)

    def _merge(self) -> Tensor:
        """The layer's weights merged with the change, in the layer's own layout."""
        assert isinstance(self.layer.weight, Tensor)
        return torch.addmm(self.layer.weight, self.up.T, self.down.T, alpha=self.scale)


def plain_output(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer's own output, whatever adapter is on."""
    out: Tensor = type(layer).forward(layer, x)
    return out


def linear_into(rows: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """`rows @ weight + bias` into `out`; the weight is [in, out]."""
    if not len(rows):
        return
    if bias is None:
        torch.mm(rows, weight, out=out)
    else:
        torch.addmm(bias, rows, weight, out=out)


class PerToken:
    """A change that is a function of a token's input and of the base's output for it. A subclass says which."""

    layer: nn.Module

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        """The changed output; `out` is the base's."""
        raise NotImplementedError

    def is_whole(self, tokens: int) -> bool:
        return False

    def compute(self, x: Tensor) -> Tensor:
        return self.output(x, plain_output(self.layer, x))

    def write(self, x: Tensor, out: Tensor) -> None:
        if len(x):
            out.copy_(self.compute(x))

    def edit(self, x: Tensor, out: Tensor) -> None:
        out.copy_(self.output(x, out))


@dataclass(frozen=True, eq=False)
class ScaledLowRank(PerToken):
    """Adds `(((x @ down) * inner) @ up) * outer`; down and up may be shared by layers."""

    layer: nn.Module
    down: Tensor
    up: Tensor
    inner: Tensor
    outer: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.down, self.up, self.inner, self.outer

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        return out + (((x @ self.down) * self.inner) @ self.up * self.outer).to(out.dtype)


@dataclass(frozen=True, eq=False)
class Kronecker(PerToken):
    """Adds the product with `first kron (up @ down)`, of which only the factors are held.

    First is [a, c], up [b, rank], down [rank, d], for a layer of c * d inputs and a * b outputs.
    """

    layer: nn.Module
    first: Tensor
    up: Tensor
    down: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.first, self.up, self.down

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        parts = x.reshape(*x.shape[:-1], self.first.shape[1], self.down.shape[1])
        added = (self.first @ (parts @ self.down.T @ self.up.T)).flatten(-2)
        return out + added.to(out.dtype)


@dataclass(frozen=True, eq=False)
class Directed(PerToken):
    """DoRA: `scale * (x @ down) @ up` is added to the product, whose rows are then scaled by `factor`; a bias stays."""

    layer: nn.Module
    down: Tensor
    up: Tensor
    scale: float
    factor: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.down, self.up, self.factor

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        bias = self.layer.bias
        product = out if bias is None else out - bias.to(out.dtype)  # type: ignore[operator]  # a Linear's
        made = (product + self.scale * ((x @ self.down) @ self.up)) * self.factor
        return (made if bias is None else made + bias).to(out.dtype)  # type: ignore[operator]  # likewise


@dataclass(frozen=True, eq=False)
class ScaledOutput(PerToken):
    """Multiplies each output by a factor."""

    layer: nn.Module
    factor: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.factor,)

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        return (out * self.factor).to(out.dtype)


@dataclass(frozen=True, eq=False)
class AddedBias(PerToken):
    """Adds a bias to the output."""

    layer: nn.Module
    bias: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.bias,)

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        return (out + self.bias).to(out.dtype)


@dataclass(frozen=True, eq=False)
class Bottleneck(PerToken):
    """Adds a small network of the output: `act(out @ down + down_bias) @ up + up_bias`. Its weights are [out, in]."""

    layer: nn.Module
    down: nn.Linear
    up: nn.Linear
    activation: str

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.down.weight, self.down.bias, self.up.weight, self.up.bias

    def output(self, x: Tensor, out: Tensor) -> Tensor:
        added: Tensor = self.up(getattr(functional, self.activation)(self.down(out)))
        return out + added.to(out.dtype)


@dataclass(frozen=True, eq=False)
class ScaledInput(PerToken):
    """Multiplies each input by a factor."""

    layer: nn.Module
    factor: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.factor,)

    def is_whole(self, tokens: int) -> bool:
        return True

    def compute(self, x: Tensor) -> Tensor:
        return plain_output(self.layer, (x * self.factor).to(x.dtype))


@dataclass(frozen=True, eq=False)
class OtherWeights(PerToken):
    """Computes the layer with other weights, of the same names and shapes: `other` is a copy of the layer with them."""

    layer: nn.Module
    other: nn.Module

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(self.other.parameters())

    def is_whole(self, tokens: int) -> bool:
        return True

    def compute(self, x: Tensor) -> Tensor:
        return plain_output(self.other, x)


def bytes_of(changes: Iterable[Change]) -> int:
    """The bytes of what changes hold; what they share counts once."""
    held: dict[int, int] = {}
    for one in changes:
        for x in one.tensors:
            held[x.data_ptr()] = max(held.get(x.data_ptr(), 0), x.nbytes)
    return sum(held.values())
