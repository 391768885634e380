"""prefix: trained keys and values in front of every input, in every layer (Li and Liang 2021, arXiv:2101.00190)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSpec, Values, Widths
from llmos.abi.methods.prompt import TOKENS


def count_weights(shape: Widths, values: Values) -> int:
    return int(values["tokens"]) * 2 * shape.layers * max(shape.hidden, shape.attention)


METHOD = MethodSpec(
    name="prefix",
    about="Trained keys and values in front of every input, in every layer.",
    family=MethodFamily.VIRTUAL,
    trains="keys and values of virtual tokens in every layer",
    settings=(TOKENS,),
    count_weights=count_weights,
    peft_type="PREFIX_TUNING",
    reads_as="virtual_tokens",
    rate=5.0,
    source="Li and Liang 2021, arXiv:2101.00190",
)
