"""vera: two random matrices for all layers, and a trained scale of each (Kopiczko et al. 2023, arXiv:2310.11454)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths, linears
from llmos.abi.methods.lora import DROPOUT, TARGETS


def count_weights(shape: Widths, values: Values) -> int:
    rank: int = values["rank"]
    shared = rank * 2 * max(shape.hidden, shape.inner)
    return shared + sum(count * (rank + max(sizes)) for count, *sizes in linears(shape))


METHOD = MethodSpec(
    name="vera",
    about="Two random matrices shared by all layers, of which each layer trains only scales.",
    family=MethodFamily.CONVERTED,
    trains="a scale for each rank and each output of every linear layer",
    settings=(MethodSetting("rank", int, 256, "the width of the random matrices", 0, 4096), DROPOUT, TARGETS),
    count_weights=count_weights,
    peft_type="VERA",
    reads_as="vera",
    rate=5.0,
    source="Kopiczko et al. 2023, arXiv:2310.11454",
)
