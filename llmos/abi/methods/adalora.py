"""adalora: LoRA whose ranks move to the layers that need them (Zhang et al. 2023, arXiv:2303.10512)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths, linears, low_rank_weights
from llmos.abi.methods.lora import ALPHA, DROPOUT, TARGETS


def count_weights(shape: Widths, values: Values) -> int:
    rank: int = values["first_rank"]
    return low_rank_weights(shape, rank) + rank * sum(count for count, *_ in linears(shape))


METHOD = MethodSpec(
    name="adalora",
    about="LoRA that starts with a higher rank and keeps it where it matters most.",
    family=MethodFamily.CONVERTED,
    trains="singular values and vectors of a small rank beside every linear layer",
    settings=(
        MethodSetting("rank", int, 8, "the mean rank of a layer in the end", 0, 1024),
        MethodSetting("first_rank", int, 12, "the rank of every layer in the beginning, over `rank`", 1, 1024),
        ALPHA,
        DROPOUT,
        TARGETS,
        MethodSetting(
            "orthogonality", float, 0.1, "the weight of the penalty for vectors that are not orthogonal", -1e-9, 100
        ),
    ),
    count_weights=count_weights,
    peft_type="ADALORA",
    reads_as="adalora",
    source="Zhang et al. 2023, arXiv:2303.10512",
)
