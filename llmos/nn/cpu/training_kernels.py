"""Kernels of kernels.c for a step of the optimizer in mixed precision: float32 weights with a copy in bfloat16."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_float, c_int, c_long, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AdamWStep:
    """What a step of AdamW multiplies by, for one group of weights: see Loshchilov and Hutter 2019, arXiv:1711.05101.

    `scale` multiplies the gradient (clipping); `step` counts from 1.
    """

    scale: float
    rate: float
    decay: float
    betas: tuple[float, float]
    eps: float
    step: int

    @property
    def corrections(self) -> tuple[float, float]:
        """What the moments' bias is divided by."""
        return 1 - self.betas[0] ** self.step, 1 - self.betas[1] ** self.step


class TrainingKernels:
    """The optimizer's functions of kernels.c. All tensors are contiguous, on the CPU, and of one size."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._squares, self._adamw = library.llmos_squares, library.llmos_adamw
        self._squares.restype, self._squares.argtypes = c_double, [c_void_p, c_long, c_long, c_int]
        self._adamw.restype = None
        self._adamw.argtypes = [*(c_void_p,) * 5, c_long, c_long, *(c_float,) * 8, c_int]

    def squares(self, parts: Sequence[Tensor]) -> float:
        """The sum of the squares of a gradient whose bfloat16 parts are added up in float32."""
        total = float(self._squares(_addresses(parts), len(parts), parts[0].numel(), torch.get_num_threads()))
        if total < 0:
            raise MemoryError("There is no memory for the sums of a gradient")
        return total

    def adamw(
        self, weight: Tensor, moments: tuple[Tensor, Tensor], copy: Tensor, parts: Sequence[Tensor], by: AdamWStep
    ) -> None:
        """Take a step: changes the float32 weight, its two moments, and its bfloat16 copy."""
        assert all(x.is_contiguous() and x.numel() == weight.numel() for x in (weight, *moments, copy))
        self._adamw(
            *(x.data_ptr() for x in (weight, *moments, copy)),
            *(_addresses(parts), len(parts), weight.numel()),
            *(by.scale, by.rate, by.decay, *by.betas, by.eps, *by.corrections),
            torch.get_num_threads(),
        )


def _addresses(parts: Sequence[Tensor]) -> ctypes.Array[c_void_p]:
    """The addresses of contiguous bfloat16 tensors of one size, as C reads them."""
    assert all(one.dtype == torch.bfloat16 and one.is_contiguous() and one.numel() == parts[0].numel() for one in parts)
    return (c_void_p * len(parts))(*(one.data_ptr() for one in parts))
