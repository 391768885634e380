"""Checks lists of texts in OpenAI's formats: detects token ids, and names an item that is not a text."""

from __future__ import annotations

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks.text import quote_value


def are_token_ids(given: list[Json]) -> bool:
    """Whether the list contains token ids, or lists of them, from a client with its own tokenizer."""
    return bool(given) and (all(map(_is_id, given)) or all(map(_are_ids, given)))


def texts_of(given: list[Json], field: str) -> list[Json]:
    """The list if every item is a text; BadInput that names the first other item by its index."""
    for index, one in enumerate(given):
        if not isinstance(one, str):
            key = f"{field}[{index}]"
            raise BadInput(f"{key}: This is no text: {quote_value(one)}. Send a string", index=index, key=key)
    return given


def _is_id(one: Json) -> bool:
    return isinstance(one, int) and not isinstance(one, bool)


def _are_ids(one: Json) -> bool:
    return isinstance(one, list) and bool(one) and all(map(_is_id, one))
