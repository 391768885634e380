"""lokr: the Kronecker product of a small and a low-rank matrix (LyCORIS, Yeh et al. 2023, arXiv:2309.14859)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSetting, MethodSpec, Values, Widths, linears
from llmos.abi.methods.lora import ALPHA, TARGETS


def count_weights(shape: Widths, values: Values) -> int:
    """At most what full factors of the two roots of a layer take."""
    rank: int = values["rank"]
    widest = max(shape.hidden, shape.inner)
    return sum(count * (widest + 2 * rank * widest) for count, *_ in linears(shape))


METHOD = MethodSpec(
    name="lokr",
    about="The Kronecker product of a small matrix and a low-rank one: few weights of a high rank.",
    family=MethodFamily.PER_TOKEN,
    trains="a small matrix and a low-rank one beside every linear layer",
    settings=(
        MethodSetting("rank", int, 8, "the rank of the second factor", 0, 1024),
        ALPHA,
        MethodSetting("factor", int, -1, "the size of the first factor; -1: near the root of the layer's", -2, 4096),
        TARGETS,
    ),
    count_weights=count_weights,
    peft_type="LOKR",
    reads_as="lokr",
    source="Yeh et al. 2023, arXiv:2309.14859",
)
