"""Plain text as an input: the one check that every task with a text shares."""

from __future__ import annotations

from typing import Any

from llmos.abi.error import BadInput

Json = Any  # Any: a JSON value, checked here


def text_of(data: Json, field: str = "text") -> str:
    """The text of `"..."` or `{field: "..."}`; BadInput with an example if there is none, or it is empty."""
    text = data.get(field) if isinstance(data, dict) else data
    if not isinstance(text, str):
        raise BadInput(f'The input is no text: {shown(data)}. Send a string, or {{"{field}": "..."}}')
    if not text.strip():
        raise BadInput(f"The {field} is empty. Send at least one character that is no space")
    return text


def whole(key: str, text: str) -> str:
    """The text; BadInput where it has half of a surrogate pair, which no UTF-8 can say."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        said = f"{key} has half of a surrogate pair at character {error.start:,}. Send whole characters"
        raise BadInput(said, key=key) from error
    return text


def shown(value: Json, width: int = 80) -> str:
    """A value as an error message quotes it: never more than a line."""
    text = repr(value[: width + 1] if isinstance(value, (str, list, tuple)) else value)
    return text if len(text) <= width else f"{text[: width - 1]}…"
