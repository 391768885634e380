"""Plain text as an input: the one check that every task with a text shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json

Part = TypeVar("Part")


def text_of(data: Json, field: str = "text") -> str:
    """The text of `"..."` or `{field: "..."}`; BadInput with an example if there is none, or it is empty."""
    text = data.get(field) if isinstance(data, dict) else data
    if not isinstance(text, str):
        raise BadInput(
            f'The input is no text: {quote_value(data)}. Send a string, or {{"{field}": "..."}}',
            field=field,
            value=quote_value(data),
        )
    if not text.strip():
        raise BadInput(
            f"The {field} is empty. Send at least one character that is no space", field=field, value=quote_value(text)
        )
    return text


def whole(key: str, text: str) -> str:
    """The text; BadInput for a lone surrogate, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        said = f"{key} has half of a surrogate pair at character {error.start:,}. Send whole characters"
        raise BadInput(said, key=key, reason="surrogate", at_character=error.start) from error
    return text


def quote_value(value: Json, width: int = 80) -> str:
    """A value as error messages quote it: at most one line."""
    text = repr(_beginning(value, [width], width))
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _beginning(value: Json, left: list[int], width: int) -> Json:
    """So much of it that its text is no shorter than the line, if it was longer; `left` are the parts still to take."""
    left[0] -= 1
    if isinstance(value, (str, bytes)):
        return value[: width + 1]
    if isinstance(value, dict):
        parts = ((_beginning(key, left, width), _beginning(one, left, width)) for key, one in value.items())
        return dict(_while(left, parts))
    if isinstance(value, (list, tuple)):
        return type(value)(_while(left, (_beginning(one, left, width) for one in value)))
    return value


def _while(left: list[int], parts: Iterator[Part]) -> Iterator[Part]:
    while left[0] > 0:
        try:
            yield next(parts)
        except StopIteration:
            return
