"""head: trains the task's head alone, on the frozen base."""

from __future__ import annotations

from llmos.abi.method import MethodFamily, MethodSpec

METHOD = MethodSpec(
    name="head",
    about="Trains the task's head alone: the cheapest, and the smallest model.",
    family=MethodFamily.HEAD,
    trains="the task's head",
    rate=5.0,
)
