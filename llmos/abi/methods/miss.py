"""miss: one small matrix for each layer, shared by blocks of its inputs (Kang and Yin 2024, arXiv:2409.15371)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths, linears
from llmos.abi.methods.lora import DROPOUT, TARGETS


def count_weights(shape: Widths, values: Values) -> int:
    rank: int = values["rank"]
    return rank * sum(count * max(sizes) for count, *sizes in linears(shape))


METHOD = MethodSpec(
    name="miss",
    about="One small matrix for each layer, shared by blocks of its inputs.",
    family=MethodFamily.CONVERTED,
    trains="one matrix of a small rank beside every linear layer",
    settings=(MethodSetting("rank", int, 32, "the rows of the matrix", 0, 1024), DROPOUT, TARGETS),
    count_weights=count_weights,
    peft_type="MISS",
    reads_as="miss",
    source="Kang and Yin 2024, arXiv:2409.15371",
)
