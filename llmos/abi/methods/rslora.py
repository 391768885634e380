"""rslora: LoRA scaled by the root of its rank, so that high ranks learn (Kalajdzievski 2023, arXiv:2312.03732)."""

from __future__ import annotations

from dataclasses import replace

from llmos.abi.methods import lora

METHOD = replace(
    lora.METHOD,
    name="rslora",
    about="LoRA whose scale is alpha / sqrt(rank), so that high ranks learn.",
    settings=(replace(lora.RANK, default=64), replace(lora.ALPHA, default=16), lora.DROPOUT, lora.TARGETS),
    rate=0.5,
    field="",
    source="Kalajdzievski 2023, arXiv:2312.03732",
)
