"""Opens files below `data_roots` so that the file that was checked is the one read, even if the path changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from llmos.abi.error import PathNotAllowed

SETTING = "data_roots"
_restricted: tuple[Path, ...] = ()  # of this process, set once at its start


def restrict(roots: Sequence[str]) -> None:
    """From now on, what this process opens by a path below one of these folders must lie there. The daemon has followed
    all links when it names a path: one that leads elsewhere was put there since."""
    global _restricted
    _restricted = tuple(map(Path, roots))


def open_below(path: Path) -> BinaryIO:
    """The file to read; PathNotAllowed if the path lies below a root and what it opens does not (Linux: where the
    descriptor leads, which no later change of the path changes)."""
    file = path.open("rb")
    if any(path.is_relative_to(root) for root in _restricted):
        real = Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))
        if not any(real.is_relative_to(root) for root in _restricted):
            file.close()
            raise refusal(str(path), _restricted)
    return file


def refusal(said: str, roots: Sequence[Path]) -> PathNotAllowed:
    """What is said of a path that leads out of these folders."""
    where = ", ".join(map(str, roots)) or f"the setting {SETTING} names none"
    return PathNotAllowed(
        f"{said[:200]} is not below a folder that requests may read: {where}. Add its folder to {SETTING}",
        key=SETTING,
        value=said[:200],
    )
