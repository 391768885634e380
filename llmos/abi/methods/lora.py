"""lora: adds the product of two small matrices to every linear layer (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths, low_rank_weights

RANK = MethodSetting("rank", int, 16, "the width of the two matrices", 0, 1024)
ALPHA = MethodSetting("alpha", int, 32, "the scale of the product is alpha / rank", 0, 65536)
DROPOUT = MethodSetting("dropout", float, 0.0, "the share of inputs that the matrices do not see in training", -1e-9, 1)
TARGETS = MethodSetting("targets", tuple, None, "endings of module names; all linear layers by default")


def count_weights(shape: Widths, values: Values) -> int:
    return low_rank_weights(shape, values["rank"])


METHOD = MethodSpec(
    name="lora",
    about="Adds the product of two small matrices to every linear layer.",
    family=MethodFamily.LOW_RANK,
    trains="two matrices of a small rank beside every linear layer",
    settings=(RANK, ALPHA, DROPOUT, TARGETS),
    count_weights=count_weights,
    peft_type="LORA",
    reads_as="lora",
    field="lora",
    is_grouped=True,
    source="Hu et al. 2021, arXiv:2106.09685",
)
