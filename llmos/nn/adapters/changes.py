"""Changes: what an adapter does to one layer of the base, token by token. Methods differ in them; mixing does not.

A change sees some tokens of a packed row and gives the layer's output for them, so any of them can stand in a row with
others.
"""

from __future__ import annotations

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
    def size_bytes(self) -> int: ...

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
    def size_bytes(self) -> int:
        return self.down.nbytes + self.up.nbytes

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
