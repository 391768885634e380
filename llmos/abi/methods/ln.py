"""ln: trains the norms of the base alone (Zhao et al. 2023, arXiv:2312.11420)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSpec, Values, Widths


def count_weights(shape: Widths, values: Values) -> int:
    return (4 * (shape.layers + 2 * shape.writing) + 2) * 2 * shape.hidden


METHOD = MethodSpec(
    name="ln",
    about="Trains the weights and biases of all norms.",
    family=MethodFamily.PER_TOKEN,
    trains="the norms",
    count_weights=count_weights,
    peft_type="LN_TUNING",
    reads_as="norms",
    rate=2.0,
    source="Zhao et al. 2023, arXiv:2312.11420",
)
