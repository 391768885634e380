"""The name of a model folder in errors: the ref of the loaded model, not the folder's name in the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_KNOWN: ContextVar[tuple[Path, str] | None] = ContextVar("known", default=None)


@contextmanager
def calling_folder(folder: Path, ref: str) -> Iterator[None]:
    """Inside this block, errors call this folder by this ref."""
    token = _KNOWN.set((folder, ref))
    try:
        yield
    finally:
        _KNOWN.reset(token)


def name_of(folder: Path) -> str:
    """The ref of the model that is being read from this folder, or else the folder's own name."""
    known = _KNOWN.get()
    return known[1] if known is not None and known[0] == folder else folder.name
