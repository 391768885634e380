"""dora: LoRA for the direction of each weight row, and a trained magnitude (Liu et al. 2024, arXiv:2402.09353)."""

from __future__ import annotations

from dataclasses import replace

from llmos.abi.method import MethodFamily, Values, Widths, linears, low_rank_weights
from llmos.abi.methods import lora


def count_weights(shape: Widths, values: Values) -> int:
    return low_rank_weights(shape, values["rank"]) + sum(count * max(sizes) for count, *sizes in linears(shape))


METHOD = replace(
    lora.METHOD,
    name="dora",
    about="LoRA for the direction of each row of a weight, and a trained magnitude of it.",
    family=MethodFamily.PER_TOKEN,
    trains="two matrices of a small rank and a magnitude for each output of every linear layer",
    count_weights=count_weights,
    field="",
    is_grouped=False,
    source="Liu et al. 2024, arXiv:2402.09353",
)
