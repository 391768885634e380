"""A reservoir: a uniform sample of the inputs since it was last emptied, bounded in number."""

from __future__ import annotations

from random import Random

from llmos.abi.monitoring import ObservedInput

MOST_INPUTS = 500


class Reservoir:
    """Vitter's algorithm R: each of `seen` inputs is in the sample with the same probability."""

    def __init__(self, most: int = MOST_INPUTS, seed: int = 7) -> None:
        self._most = most
        self._chance = Random(seed)
        self.seen = 0
        self.inputs: list[ObservedInput] = []

    def add(self, one: ObservedInput) -> None:
        self.seen += 1
        if len(self.inputs) < self._most:
            self.inputs.append(one)
        elif (place := int(self._chance.random() * self.seen)) < self._most:
            self.inputs[place] = one

    def take(self) -> tuple[int, tuple[ObservedInput, ...]]:
        """How many there were, and the sample; it is empty then."""
        taken = self.seen, tuple(self.inputs)
        self.seen, self.inputs = 0, []
        return taken
