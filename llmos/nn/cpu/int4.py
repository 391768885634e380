"""4-bit weights of GGUF models (Q4_0, Q4_1), recovered exactly from their floats and kept in 4 bits.

For every 32 inputs of an output, Q4_1 stores a scale, a minimum, and 32 numbers from 0 to 15; a weight is `least +
number * scale`. Q4_0 is a special case of this; if its scale is negative, the maximum takes the minimum's place. In 8
bits these weights would be rounded once more and take twice the memory.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

FINE = 32  # as in kernels.c: inputs that share a scale
LEVELS = 15


class Int4Weights(NamedTuple):
    """A layer's weights: [out, in / 2] in uint8, an even input in the low bits, and [out, in / 32] in float16 twice."""

    codes: Tensor
    scale: Tensor
    least: Tensor


@torch.inference_mode()
def recover_int4(weights: Tensor) -> Int4Weights | None:
    """The 4-bit weights that equal these floats, [out, in], to the last bit; None if there are none."""
    if weights.shape[1] % FINE or not weights.numel():
        return None
    if _fit_block(weights[:1]) is None:  # for most models the first output decides
        return None
    return _fit_block(weights)


def round_to_int4(weights: Tensor) -> Int4Weights:
    """The nearest 4-bit weights to these floats, [out, in], of a multiple of 32 inputs: 16 steps from the least of a
    block to its largest."""
    blocks = weights.reshape(len(weights), -1, FINE)
    ends = blocks.aminmax(dim=-1)
    least = ends.min.half()
    scale = ((ends.max - least.float()) / LEVELS).half()
    steps = (blocks - least.float().unsqueeze(-1)) / scale.float().unsqueeze(-1)
    return Int4Weights(_pack_pairs(steps.nan_to_num(0, 0, 0).round().clamp(0, LEVELS).to(torch.uint8)), scale, least)


def _pack_pairs(numbers: Tensor) -> Tensor:
    """Numbers from 0 to 15, [out, in / 32, 32], two in a byte: [out, in / 2]."""
    even, odd = numbers.reshape(len(numbers), -1, 2).unbind(-1)
    return even | odd << 4


def plain(nibbles: Int4Weights) -> Tensor:
    """The weights as floats, [out, in] in float32."""
    codes, scale, least = nibbles
    numbers = torch.stack((codes & LEVELS, codes >> 4), -1).view(len(codes), -1, FINE).float()
    return numbers.mul_(scale.float().unsqueeze(-1)).add_(least.float().unsqueeze(-1)).flatten(1)


def is_sound(nibbles: Int4Weights, shape: tuple[int, int]) -> bool:
    """Whether they are the weights of a layer of this shape, [out, in]."""
    outs, ins = shape
    codes, *rest = nibbles
    if codes.dtype is not torch.uint8 or ins % FINE or codes.shape != (outs, ins // 2):
        return False
    return all(x.dtype is torch.float16 and x.shape == (outs, ins // FINE) and bool(x.isfinite().all()) for x in rest)


def _fit_block(weights: Tensor) -> Int4Weights | None:
    """Fit a scale and a start to each block.

    A number 0 is the minimum or the maximum; the other end is mostly 15 steps away.
    """
    blocks = weights.reshape(len(weights), -1, FINE)
    ends = blocks.aminmax(dim=-1)
    span = ends.max - ends.min
    scale, numbers = torch.zeros_like(span, dtype=torch.float16), torch.zeros_like(blocks, dtype=torch.uint8)
    least = ends.min.half()
    left = (span > 0) | (least.float() != ends.min)  # a block of equal numbers has a scale of 0
    for steps, (first, sign) in product(range(LEVELS, 0, -1), ((ends.min, 1), (ends.max, -1))):
        if not bool(left.any()):
            break
        anchor, tried = first[left].half(), (sign * span[left] / steps).half()
        some, start, step = blocks[left], anchor.float().unsqueeze(-1), tried.float().unsqueeze(-1)
        near = ((some - start) / step).round().nan_to_num(0).clamp(0, LEVELS)
        fits = (near * step + start == some).all(-1)
        at = left.nonzero()[fits].unbind(-1)
        scale[at], least[at], numbers[at] = tried[fits], anchor[fits], near[fits].to(torch.uint8)
        left[at] = False
    if bool(left.any()):
        return None
    return Int4Weights(_pack_pairs(numbers), scale, least)
