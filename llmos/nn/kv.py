"""The keys and values one sequence has left behind, layer by layer, so that its next token costs one token."""

from __future__ import annotations

from torch import Tensor

FIRST = 64  # tokens of room at the start; doubled whenever it is full


Pair = tuple[Tensor, Tensor]


class KV:
    """One sequence's keys and values, [kv heads, tokens, d] per layer."""

    def __init__(self) -> None:
        self._layers: dict[int, Pair] = {}
        self._filled: dict[int, int] = {}

    @property
    def length(self) -> int:
        """Tokens that every layer has seen."""
        return min(self._filled.values(), default=0)

    @property
    def size_bytes(self) -> int:
        return sum(x.nbytes for pair in self._layers.values() for x in pair)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> Pair:
        """Append what came, and return all that has come, as views."""
        before = self._filled.get(layer, 0)
        after = before + key.shape[1]
        held = self._layers.get(layer)
        if held is None or after > held[0].shape[1]:
            held = self._grown(held, key, value, before, after)
            self._layers[layer] = held
        held[0][:, before:after] = key
        held[1][:, before:after] = value
        self._filled[layer] = after
        return held[0][:, :after], held[1][:, :after]

    @staticmethod
    def _grown(held: Pair | None, key: Tensor, value: Tensor, before: int, after: int) -> Pair:
        room = max(FIRST, 2 * before, after)
        new = tuple(x.new_empty(x.shape[0], room, x.shape[2]) for x in (key, value))
        if held is not None:
            for to, old in zip(new, held, strict=True):
                to[:, :before] = old[:, :before]
        return new[0], new[1]
