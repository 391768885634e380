"""Dropout (Srivastava et al. 2014) by 16 random bits an element: torch draws a number for each, a third of its time."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

LEVELS = 1 << 16


def dropout_factors(
    shape: Sequence[int], share: float, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Tensor:
    """What dropout multiplies by: 0 for about this share of the elements, to one in 65,536, and 1 / (1 - share) else.

    The numbers follow from torch's seed.
    """
    count = prod(shape)
    dropped = min(round(share * LEVELS), LEVELS - 1)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=device).random_(-(1 << 63), None)
    is_kept = words.view(torch.int16)[:count] >= dropped - LEVELS // 2
    return is_kept.to(dtype).mul_(LEVELS / (LEVELS - dropped)).view(tuple(shape))


class FastDropout(nn.Dropout):
    """torch's Dropout with other random numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x * dropout_factors(x.shape, self.p, x.dtype, x.device) if self.training and self.p else x


def draw_fast(*modules: nn.Module) -> None:
    """Have the dropouts in these modules draw fewer bits, where the processor draws them."""
    for module in modules:
        for part in module.modules():
            if type(part) is nn.Dropout and not part.inplace and part.p < 1:
                part.__class__ = FastDropout
