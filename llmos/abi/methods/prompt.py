"""prompt: trained vectors in front of every input (Lester et al. 2021, arXiv:2104.08691)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths

TOKENS = MethodSetting("tokens", int, 20, "how many virtual tokens stand in front of every input", 0, 512)


def count_weights(shape: Widths, values: Values) -> int:
    return int(values["tokens"]) * shape.hidden


METHOD = MethodSpec(
    name="prompt",
    about="Trained vectors in front of every input, in place of tokens.",
    family=MethodFamily.VIRTUAL,
    trains="the vectors of virtual tokens",
    settings=(TOKENS,),
    count_weights=count_weights,
    peft_type="PROMPT_TUNING",
    reads_as="virtual_tokens",
    rate=5.0,
    source="Lester et al. 2021, arXiv:2104.08691",
)
