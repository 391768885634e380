"""The ceiling: the matrix products of a generating model and nothing else. No engine in the same dtype can beat it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import linear

from llmos.nn.cpu.few_row_matmul import transposed_matmul
from llmos.nn.load import load_folder

STEP_TOKENS = 256  # of prompts, at most, in a step
LAST_TOKENS, WORDS = 32, 16_384  # the next-token layer, the one with so many outputs, sees the last token of each text

Products = Callable[[int], object]


def products(folder: Path, dtype: str, device: str) -> Products:
    """Every matrix product of a step for so many tokens, each the way round that is faster."""
    model = load_folder(folder, dtype=dtype, device=device).causal
    assert model is not None
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]

    def run(tokens: int) -> None:
        inputs = {w.shape[1]: torch.ones(tokens, w.shape[1], dtype=w.dtype) for w in weights}
        for weight in weights:
            x = inputs[weight.shape[1]]
            x = x[:LAST_TOKENS] if len(weight) > WORDS else x
            if len(x) > 1:
                transposed_matmul(x, weight, None)
            else:
                linear(x, weight)

    return torch.inference_mode()(run)


def answers(run: Products, prompt_tokens: int, count: int, tokens: int) -> None:
    """Of reading so many tokens of prompts in full steps, and of as many further steps as `count` answers take."""
    for start in range(0, prompt_tokens, STEP_TOKENS):
        run(min(STEP_TOKENS, prompt_tokens - start))
    for _ in range(tokens - 1):
        run(count)
