"""A frozen layer's weight in fewer bits, and its products: floats, int8 by output, int4 by 32 inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from llmos.abi.form import INT8
from llmos.nn.cpu.int4 import FINE, Int4Weights, plain, round_to_int4

INT4 = "int4"
ROUNDED = (INT4, INT8)
MOST = 127


class HeldWeight(Protocol):
    """A weight [outputs, inputs] in some form."""

    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T`, in the dtype of `x`."""
        ...

    def back(self, dy: Tensor) -> Tensor:
        """`dy @ weight`, in the dtype of `dy`: the gradient of the input."""
        ...

    def plain(self) -> Tensor:
        """The weight in float32."""
        ...

    @property
    def nbytes(self) -> int:
        """The bytes that it is kept in."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class HeldFloats:
    """Floats in any dtype."""

    weight: Tensor

    def product(self, x: Tensor) -> Tensor:
        return x @ self.weight.to(x.dtype).T

    def back(self, dy: Tensor) -> Tensor:
        return dy @ self.weight.to(dy.dtype)

    def plain(self) -> Tensor:
        return self.weight.float()

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class HeldInt8:
    """int8 [outputs, inputs], times `scale` [outputs]: a step is 1/127 of the largest weight of its output."""

    rounded: Tensor
    scale: Tensor

    def product(self, x: Tensor) -> Tensor:
        return (x @ self.rounded.to(x.dtype).T) * self.scale.to(x.dtype)

    def back(self, dy: Tensor) -> Tensor:
        return (dy * self.scale.to(dy.dtype)) @ self.rounded.to(dy.dtype)

    def plain(self) -> Tensor:
        return self.rounded.float() * self.scale[:, None]

    @property
    def nbytes(self) -> int:
        return self.rounded.nbytes + self.scale.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class HeldInt4:
    """Q4_1: 16 steps between the least and the largest of 32 inputs of an output, 5 bits a weight. It is opened to
    floats for each product."""

    nibbles: Int4Weights

    def product(self, x: Tensor) -> Tensor:
        return x @ self.plain().to(x.dtype).T

    def back(self, dy: Tensor) -> Tensor:
        return dy @ self.plain().to(dy.dtype)

    def plain(self) -> Tensor:
        return plain(self.nibbles)

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in self.nibbles)


def hold(weight: Tensor, dtype: str) -> HeldWeight:
    """The weight in this dtype: int4, int8 or one of floats. What int4 has no blocks for, is kept in int8."""
    if dtype == INT4 and weight.shape[1] % FINE == 0:
        return HeldInt4(round_to_int4(weight.float()))
    if dtype in ROUNDED:
        exact = weight.float()
        scale = exact.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / MOST
        return HeldInt8((exact / scale[:, None]).round().to(torch.int8), scale)
    return HeldFloats(weight.to(getattr(torch, dtype)))
