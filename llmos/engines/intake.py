"""Takes a call in step by step (lookup, checks, tokenizing, grammar), so that long inputs do not block others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

from llmos.abi.call import characters
from llmos.abi.json_type import Json

Intake = Generator[None, None, Callable[[], None]]

PART_INPUTS = 64  # of a step, or fewer inputs with this many characters
PART_CHARS = 1 << 16


def parts(inputs: Sequence[Json]) -> Iterator[Sequence[Json]]:
    """Split the inputs into one part per step; a single input is never split."""
    start = chars = 0
    for end, one in enumerate(inputs, 1):
        chars += characters(one)
        if chars >= PART_CHARS or end - start >= PART_INPUTS or end == len(inputs):
            yield inputs[start:end]
            start, chars = end, 0


def whole(intake: Intake) -> Callable[[], None]:
    """Run all steps at once; raises what a step raises."""
    while True:
        try:
            next(intake)
        except StopIteration as done:
            put: Callable[[], None] = done.value
            return put
