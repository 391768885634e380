"""loha: the elementwise product of two low-rank matrices (FedPara, Hyeon-Woo et al. 2021, arXiv:2108.06098)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths, low_rank_weights
from llmos.abi.methods.lora import ALPHA, TARGETS


def count_weights(shape: Widths, values: Values) -> int:
    return 2 * low_rank_weights(shape, values["rank"])


METHOD = MethodSpec(
    name="loha",
    about="The elementwise product of two low-rank matrices: of rank squared, from twice LoRA's weights.",
    family=MethodFamily.CONVERTED,
    trains="two pairs of matrices of a small rank beside every linear layer",
    settings=(MethodSetting("rank", int, 8, "the width of the matrices", 0, 64), ALPHA, TARGETS),
    count_weights=count_weights,
    peft_type="LOHA",
    reads_as="loha",
    source="Hyeon-Woo et al. 2021, arXiv:2108.06098",
)
