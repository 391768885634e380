"""The params of a call: those a task does not know are refused, with the nearest that it knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks import Tokenizer, spec_of
from llmos.tasks.text import quote_value

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
