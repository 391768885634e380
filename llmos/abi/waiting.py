"""Whether a caller still waits for a thread's work, so that abandoned work is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_has_left: ContextVar[Callable[[], bool] | None] = ContextVar("has_left", default=None)


@contextmanager
def waited_for(has_left: Callable[[], bool]) -> Iterator[None]:
    """Inside this block this thread works for a caller; `has_left` says whether the caller is gone."""
    token = _has_left.set(has_left)
    try:
        yield
    finally:
        _has_left.reset(token)


def is_for_nobody() -> bool:
    """Whether the caller of this thread's work is gone; False if there is none."""
    has_left = _has_left.get()
    return has_left is not None and has_left()
