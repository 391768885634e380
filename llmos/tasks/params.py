"""The params of a call: those a task does not know are refused, with the nearest that it knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from llmos.abi.error import BadInput
from llmos.tasks import task


def check_params(name: str, given: Iterable[str]) -> None:
    """BadInput for the first param that the task does not declare; a task that declares none at all is not checked."""
    known = getattr(task(name), "params", None)
    if known is None:
        return
    for key in given:
        if key not in known:
            near = ", ".join(get_close_matches(key, known) or sorted(known)) or "none"
            raise BadInput(f"{name} has no param {key!r}. It has: {near}. Correct it, or leave it out", key=key)
