"""The path of rows: a file or a folder, and behind a colon a part of it: a sheet, a table, a split, a packed file."""

from __future__ import annotations

import os
from pathlib import Path

from llmos.abi.upload import real_path


def split_part(source: str) -> tuple[str, str]:
    """The path and its part; the part is empty where the whole is there, or nothing is there before the colon."""
    if os.path.lexists(real_path(Path(source))):
        return source, ""
    path, colon, part = source.rpartition(":")
    return (path, part) if colon and part and os.path.exists(real_path(Path(path))) else (source, "")
