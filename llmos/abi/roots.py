"""Opens files below `data_roots` so that the file that was checked is the one read, even if the path changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from llmos.abi.error import PathNotAllowed
from llmos.abi.upload import real_path

SETTING = "data_roots"
_restricted: tuple[Path, ...] = ()  # of this process, set once at its start


def restrict(roots: Sequence[str]) -> None:
    """From now on, files that this process opens below one of these folders must really lie there.

    The daemon passes resolved paths, so a link that leads elsewhere was created later.
    """
    global _restricted
    _restricted = tuple(map(Path, roots))


def open_below(path: Path) -> BinaryIO:
    """Open a file; PathNotAllowed if its path lies below a root but the opened file does not.

    On Linux the descriptor's own path is checked, which later changes cannot affect. An uploaded file may be named as
    `upload:ID/name`.
    """
    file = real_path(path).open("rb")
    if any(path.is_relative_to(root) for root in _restricted):
        real = Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))
        if not any(real.is_relative_to(root) for root in _restricted):
            file.close()
            raise refusal(str(path), _restricted)
    return file


def refusal(said: str, roots: Sequence[Path]) -> PathNotAllowed:
    """The error for a path that leads out of these folders."""
    where = ", ".join(map(str, roots)) or f"the setting {SETTING} names none"
    return PathNotAllowed(
        f"{said[:200]} is not below a folder that requests may read: {where}. Add its folder to {SETTING}",
        key=SETTING,
        value=said[:200],
    )
