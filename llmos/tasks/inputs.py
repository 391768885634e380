"""The inputs of a call, checked and rendered: what is wrong with one of many says which one it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks import Rendered, Settings, Task, Tokenizer


def check_inputs(task: Task, inputs: Sequence[Json], *, first: int = 0) -> list[Json]:
    """Each input in its normal form; the BadInput of the first that has none says its `index`."""
    normal = []
    for index, one in enumerate(inputs, first):
        with naming_place(index=index):
            normal.append(task.check(one))
    return normal


def render_inputs(
    task: Task, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings, *, first: int = 0
) -> list[Rendered]:
    """The inputs as tokens; the BadInput of the first that cannot be says its `index`, counted from `first` on.

    They are tokenized together, for that is fastest; only after a refusal one by one.
    """
    normal = check_inputs(task, inputs, first=first)
    try:
        return task.render(normal, tokenizer, settings)
    except BadInput:
        for index, one in enumerate(normal, first):
            with naming_place(index=index):
                task.render([one], tokenizer, settings)
        raise


@contextmanager
def naming_place(**place: Json) -> Iterator[None]:
    """A BadInput of the block says where it was: the `index` of its input, `at` what part of it.

    One that names a param (`key`) is about no input.
    """
    try:
        yield
    except BadInput as error:
        if "key" not in error.detail:
            error.detail = {**place, **error.detail}
        raise
