"""The arguments that a client may give a program, checked. The daemon alone sets undeclared ones."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec

from llmos.abi.error import BadInput, BadSetting
from llmos.abi.json_type import Json
from llmos.kernel.programs import declaration_of, declarations

MAX_TEXT = 4_096  # characters of a name, a path, a label
MAX_KEY = 60
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Rows = Text | dict[str, Json]  # a file or dataset, or one with settings for reading it


def check_arguments(program: str, args: Mapping[str, Json]) -> None:
    """Check the arguments; null counts as not given.

    BadInput for a program that only the daemon starts; BadSetting for an unknown argument or one of the wrong type.
    """
    types = declaration_of(program).arguments
    if types is None:
        raise BadInput(
            f"{program} is started by the daemon alone. There are: {', '.join(startable())}",
            key="program",
            value=program,
            expected=list(startable()),
        )
    for key, value in args.items():
        if value is None:
            continue
        if key not in types:
            said = key[:MAX_KEY]
            near = ", ".join(get_close_matches(said, types)) or "none"
            raise BadSetting(
                f"{program} takes no argument {said!r} (near: {near}). It takes: {', '.join(types)}",
                key=said,
                value="",
                expected=list(types),
                program=program,
            )
        _check_type(program, key, value, types[key])


def startable() -> list[str]:
    """The programs that a client may start."""
    return [name for name, one in declarations().items() if one.arguments is not None]


def _check_type(program: str, key: str, value: Json, kind: Any) -> None:  # Any: a type expression
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        said = str(error)
        raise BadSetting(
            f"{key} of {program} does not fit: {said[:200]}", key=key, value="", expected=said[:200], program=program
        ) from error
    if (size := _longest(value)) > MAX_TEXT:
        said = f"a text of at most {MAX_TEXT:,} characters"
        raise BadSetting(
            f"{key} of {program} has a text of {size:,} characters; it may have {MAX_TEXT:,}",
            key=key,
            value="",
            expected=said,
            program=program,
        )


def _longest(value: Json) -> int:
    """The length of the longest text in it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return max((max(len(name), _longest(one)) for name, one in value.items()), default=0)
    return max(map(_longest, value), default=0) if isinstance(value, (list, tuple)) else 0
