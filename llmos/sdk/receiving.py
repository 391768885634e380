"""Receiving a file in parts: written aside, checked by its digest, and then put in its place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from llmos.abi.error import BadInput, Corrupt
from llmos.abi.json_type import Json


def export_target(out: str | Path, *, overwrite: bool) -> Path:
    """The absolute path of the file to write; BadInput if it cannot be written, or is there and must stay."""
    path = Path(out).expanduser().absolute()
    if path.is_dir():
        raise BadInput(f"{path} is a folder. Give the name of a file", file=str(path), reason="folder")
    if path.exists() and not overwrite:
        raise BadInput(f"{path} is there already. Give another name, or --force", file=str(path), reason="exists")
    if not path.parent.is_dir():
        raise BadInput(f"There is no folder {path.parent}. Make it first", file=str(path), reason="no_folder")
    return path


class Receiving:
    """A file that comes in parts. It is written beside its place under another name."""

    def __init__(self, target: Path, found: Mapping[str, Json]) -> None:
        """`found` has its `size_bytes` and its `sha256`, which is empty where it is not known."""
        self._target, self._found = target, found
        self._aside = target.with_name(f".{target.name}.{os.getpid()}.part")
        self._digest = hashlib.sha256()
        self._size_bytes, self._parts = 0, 0
        self._aside.write_bytes(b"")

    @property
    def next_part(self) -> int | None:
        """The number of the next part, from 1; None when all bytes are here."""
        return self._parts + 1 if self._size_bytes < self._found["size_bytes"] else None

    def take(self, part: bytes) -> None:
        """Write the next part; Corrupt if it is empty, so that nothing waits for ever."""
        if not part:
            self._refuse()
        with self._aside.open("ab") as file:
            file.write(part)
        self._digest.update(part)
        self._size_bytes += len(part)
        self._parts += 1

    def finish(self) -> Path:
        """Put the file in its place, whole or not at all; Corrupt if it has other bytes than were written there."""
        if self._found["sha256"] not in ("", self._digest.hexdigest()):
            self._refuse()
        self._aside.replace(self._target)
        return self._target

    def _refuse(self) -> None:
        self._aside.unlink(missing_ok=True)
        raise Corrupt(f"{self._target.name} did not come as it was written. Export it again", path=str(self._target))
