"""p-tuning: vectors in front of every input, made by a network in training (Liu et al. 2021, arXiv:2103.10385)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths
from llmos.abi.methods.prompt import TOKENS

WIDTH = MethodSetting("network", int, 128, "the width of the network that makes the vectors in training", 0, 4096)


def count_weights(shape: Widths, values: Values) -> int:
    width = int(values["network"])
    return int(values["tokens"]) * shape.hidden + 2 * width * shape.hidden + width * (width + 2) + shape.hidden


METHOD = MethodSpec(
    name="p-tuning",
    about="Vectors in front of every input, which a small network makes in training.",
    family=MethodFamily.VIRTUAL,
    trains="virtual tokens and the network that makes their vectors",
    settings=(TOKENS, WIDTH),
    count_weights=count_weights,
    peft_type="P_TUNING",
    reads_as="virtual_tokens",
    source="Liu et al. 2021, arXiv:2103.10385",
)
