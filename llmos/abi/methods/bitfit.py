"""bitfit: trains a bias of every linear layer alone (Ben Zaken et al. 2021, arXiv:2106.10199)."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSpec, Values, Widths, linears
from llmos.abi.methods.lora import TARGETS


def count_weights(shape: Widths, values: Values) -> int:
    return sum(count * max(sizes) for count, *sizes in linears(shape))


METHOD = MethodSpec(
    name="bitfit",
    about="Adds a trained bias to every linear layer, also where it has none.",
    family=MethodFamily.PER_TOKEN,
    trains="a bias for every linear layer",
    settings=(TARGETS,),
    count_weights=count_weights,
    peft_type="BEFT",
    reads_as="bias",
    rate=2.0,
    source="Ben Zaken et al. 2021, arXiv:2106.10199",
)
