"""houlsby: a small layer behind attention and behind the feed-forward part (Houlsby et al. 2019, arXiv:1902.00751)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths

WIDTH = MethodSetting("width", int, 48, "the width of the small layer", 0, 4096)
ACTIVATION = MethodSetting(
    "activation", str, "gelu", "the function between its two products", choices=("gelu", "relu", "tanh")
)


def count_weights(shape: Widths, values: Values) -> int:
    width: int = values["width"]
    return (2 * shape.layers + 3 * shape.writing) * (2 * shape.hidden * width + width + shape.hidden)


METHOD = MethodSpec(
    name="houlsby",
    about="A small layer with an activation behind attention, and one behind the feed-forward part.",
    family=MethodFamily.PER_TOKEN,
    trains="two small layers in every layer",
    settings=(WIDTH, ACTIVATION),
    count_weights=count_weights,
    peft_type="BOTTLENECK",
    is_in_peft=False,
    reads_as="bottleneck",
    source="Houlsby et al. 2019, arXiv:1902.00751",
)
