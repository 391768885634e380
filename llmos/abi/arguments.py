"""The arguments that a client may give each program. What is not here is for the daemon alone to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, get_type_hints

import msgspec

from llmos.abi.error import BadInput, BadSetting
from llmos.abi.json_type import Json
from llmos.abi.process import Program
from llmos.abi.recipe import Recipe

MAX_TEXT = 4_096  # characters of a name, a path, a label
MAX_KEY = 60
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Rows = Text | dict[str, Json]  # a file or dataset, or that and how to read it
# What a client may give each program, and its type. No probe: what it says becomes the box's number format.
TYPES: dict[Program, dict[str, Any]] = {  # Any: a type expression that msgspec checks by
    Program.PULL: dict.fromkeys(("source", "name", "base", "dtype", "engine", "task"), Text)
    | {"max_drop": float, "labels": list[Text]},
    Program.TRAIN: get_type_hints(Recipe),
    Program.EVALUATE: {"model": Text, "data": Rows, "task": Text, "options": dict[str, Json], "dtype": Text},
    Program.QUANTIZE: {"model": Text, "data": Rows, "max_drop": float},
    Program.SERVE: {"base": Text, "engine": Text},
}
ARGUMENTS: dict[Program, tuple[str, ...]] = {program: tuple(types) for program, types in TYPES.items()}


def check_arguments(program: Program, args: Mapping[str, Json]) -> None:
    """BadInput for a program that only the daemon starts, BadSetting for an argument that no client gives it,
    or that is not of its type; one that is null is as if it was not given."""
    if program not in ARGUMENTS:
        raise BadInput(f"{program} is started by the daemon alone. There are: {', '.join(ARGUMENTS)}", key="program")
    known = ARGUMENTS[program]
    for key, value in args.items():
        if value is None:
            continue
        if key not in known:
            said = key[:MAX_KEY]
            near = ", ".join(get_close_matches(said, known)) or "none"
            raise BadSetting(
                f"{program} takes no argument {said!r} (near: {near}). It takes: {', '.join(known)}",
                key=said,
                value="",
                expected=list(known),
            )
        _check_type(program, key, value)


def _check_type(program: Program, key: str, value: Json) -> None:
    try:
        msgspec.convert(value, TYPES[program][key])
    except msgspec.ValidationError as error:
        said = str(error)
        raise BadSetting(
            f"{key} of {program} does not fit: {said[:200]}", key=key, value="", expected=said[:200]
        ) from error
    if (size := _longest(value)) > MAX_TEXT:
        said = f"a text of at most {MAX_TEXT:,} characters"
        raise BadSetting(
            f"{key} of {program} has a text of {size:,} characters; it may have {MAX_TEXT:,}",
            key=key,
            value="",
            expected=said,
        )


def _longest(value: Json) -> int:
    """Characters of the longest text in it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return max((max(len(name), _longest(one)) for name, one in value.items()), default=0)
    return max(map(_longest, value), default=0) if isinstance(value, (list, tuple)) else 0
