"""The home's key for ids of rows: random, made once, readable by its owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from llmos.abi.error import Corrupt
from llmos.kernel.store import disk

FILE = "row.key"
KEY_BYTES = 32


def has_row_key(home: Path) -> bool:
    """Whether the home has its key already."""
    return (home / FILE).exists()


def row_key(home: Path) -> bytes:
    """The key, made now if the home has none; Corrupt if the file has no such key."""
    path = home / FILE
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return _make(path)
    if len(key) != KEY_BYTES:
        raise Corrupt(
            f"{path} has {len(key)} bytes; the key has {KEY_BYTES}. Bring it back from a copy of the home. Without "
            "one, remove the file: new rows then get other ids than the same rows have now",
            path=str(path),
        )
    return key


def _make(path: Path) -> bytes:
    key, aside = secrets.token_bytes(KEY_BYTES), disk.temporary(path)
    number = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(number, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(number)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    disk.sync(path.parent)
    return key
