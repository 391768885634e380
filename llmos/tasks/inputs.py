"""The inputs and params of a call, checked and rendered: what is wrong with one of many says which one it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks import Rendered, Settings, Task, Tokenizer, spec_of
from llmos.tasks.text import quote_value


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


PARSE_SPECIAL = "parse_special"
MAX_KEY = 100  # characters of a name that nobody knows, which it is compared by and told by
OF_ALL = frozenset({PARSE_SPECIAL})  # what a call to any task may say


def parses_special(params: Mapping[str, Json]) -> bool:
    """Whether the names of control tokens in what a call brings are meant as such; BadInput for what says neither."""
    value = params.get(PARSE_SPECIAL)
    if value is not None and not isinstance(value, bool):
        raise BadInput(
            f"{PARSE_SPECIAL} is {quote_value(value)}; it must be true or false",
            key=PARSE_SPECIAL,
            value=quote_value(value),
        )
    return bool(value)


def reading(tokenizer: Tokenizer, params: Mapping[str, Json]) -> Tokenizer:
    """The tokenizer as a call wants its texts read."""
    return tokenizer.parsing() if parses_special(params) else tokenizer


def check_params(name: str, given: Iterable[str]) -> None:
    """BadInput for the first param that the task does not declare; a task that declares none at all is not checked."""
    known = spec_of(name).params
    if known is None:
        return
    for key in given:
        if key not in known and key not in OF_ALL:
            known = known | OF_ALL
            said = key if len(key) <= MAX_KEY else f"{key[: MAX_KEY - 4]} ..."
            near = ", ".join(get_close_matches(said, known) or sorted(known)) or "none"
            raise BadInput(f"{name} has no param {said!r}. It has: {near}. Correct it, or leave it out", key=said)
