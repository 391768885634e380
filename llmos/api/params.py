"""OpenAI's parameters that this box does not have: let through where they ask for nothing, refused where they do."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from llmos.abi.error import BadInput

Json = Any  # Any: a JSON value, checked here
T = TypeVar("T")

# Parameter -> the values with which it asks for nothing; None always does.
NEUTRAL: dict[str, tuple[Json, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "metadata": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def supported(body: dict[str, Json], kind: type[T]) -> T:
    """The body as a request of this kind; BadInput for whatever it asks that would otherwise be ignored."""
    kept = {key: value for key, value in body.items() if key not in NEUTRAL}
    for key in body.keys() - kept.keys():
        if body[key] is not None and body[key] not in NEUTRAL[key]:
            raise BadInput(f"{key} is not supported yet. Leave it out", key=key)
    try:
        return msgspec.convert(kept, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"The body does not fit: {error}. What is expected is at /docs") from error
