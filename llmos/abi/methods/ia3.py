"""ia3: a trained factor for keys, values and the inputs of feed-forward layers (Liu et al. 2022, arXiv:2205.05638)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSpec, Values, Widths


def count_weights(shape: Widths, values: Values) -> int:
    return (shape.layers + 2 * shape.writing) * (3 * max(shape.hidden, shape.attention) + shape.inner)


METHOD = MethodSpec(
    name="ia3",
    about="A factor for each key, value and feed-forward unit: the fewest weights inside the layers.",
    family=MethodFamily.PER_TOKEN,
    trains="a factor for each key, value and feed-forward unit",
    count_weights=count_weights,
    peft_type="IA3",
    reads_as="ia3",
    rate=5.0,
    source="Liu et al. 2022, arXiv:2205.05638",
)
