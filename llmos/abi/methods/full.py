"""full: fine-tunes every weight of the base."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSpec

METHOD = MethodSpec(
    name="full",
    about="Fine-tunes every weight. The model is as large as its base and shares nothing with others.",
    family=MethodFamily.FULL,
    trains="every weight",
)
