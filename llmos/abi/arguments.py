"""The arguments that a client may give each program. What is not here is for the daemon alone to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from llmos.abi.error import BadInput, BadSetting
from llmos.abi.process import Program
from llmos.abi.recipe import Recipe

Json = Any  # Any: a JSON value whose schema belongs to the program

ARGUMENTS: dict[Program, tuple[str, ...]] = {  # no probe: what it says becomes the box's number format
    Program.PULL: ("source", "name", "base", "dtype", "max_drop", "engine", "task", "labels"),
    Program.TRAIN: tuple(one.name for one in fields(Recipe)),
    Program.EVALUATE: ("model", "data", "task", "options", "dtype"),
    Program.QUANTIZE: ("model", "data", "max_drop"),
    Program.SERVE: ("base", "engine"),
}


def check_arguments(program: Program, args: Mapping[str, Json]) -> None:
    """BadInput for a program that only the daemon starts, BadSetting for an argument that no client gives it."""
    if program not in ARGUMENTS:
        raise BadInput(f"{program} is started by the daemon alone. There are: {', '.join(ARGUMENTS)}", key="program")
    known = ARGUMENTS[program]
    for key in args:
        if key not in known:
            near = ", ".join(get_close_matches(key, known)) or "none"
            raise BadSetting(
                f"{program} takes no argument {key[:60]!r} (near: {near}). It takes: {', '.join(known)}",
                key=key[:60],
                value="",
                expected=list(known),
            )
