"""Whether a caller still waits for a thread's work, so that abandoned work is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_has_left: ContextVar[Callable[[], bool] | None] = ContextVar("has_left", default=None)


@contextmanager
def waited_for(has_left: Callable[[], bool]) -> Iterator[None]:
    """What this thread does in the block is for somebody; `has_left` says whether they wait no longer."""
    token = _has_left.set(has_left)
    try:
        yield
    finally:
        _has_left.reset(token)


def is_for_nobody() -> bool:
    """Whoever this thread works for has left; False where it was not said for whom it works."""
    has_left = _has_left.get()
    return has_left is not None and has_left()
