"""Records: small facts about long work that outlive its process, a JSON file each, all of them in memory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Generic, TypeVar

from llmos.abi.error import LlmosError
from llmos.abi.wire import from_json, to_json
from llmos.kernel.store import disk

T = TypeVar("T")
log = logging.getLogger(__name__)


class Records(Generic[T]):
    """The records of a folder, by id. Its methods write to the disk, so call them in a thread."""

    def __init__(self, folder: Path, kind: type[T]) -> None:
        self.folder = folder
        self._kind = kind
        self.known: dict[str, T] = {}

    def read(self) -> None:
        """Read what is there; a damaged record is logged and left out."""
        if not self.folder.is_dir():
            return
        disk.sweep(self.folder)
        for path in sorted(self.folder.glob("*.json")):
            try:
                self.known[path.stem] = from_json(path.read_bytes(), self._kind)
            except (OSError, LlmosError) as error:
                log.error("the record %s is damaged, and left out: %s", path, error)

    def put(self, name: str, record: T) -> None:
        """Write this record; it is durable when this returns. DiskFull if it is not written."""
        self._write(name, record)
        self.known[name] = record

    def write(self, name: str) -> None:
        """Write what is known now under this name, if it is still known; as `put`."""
        if (record := self.known.get(name)) is not None:
            self._write(name, record)

    def _write(self, name: str, record: T) -> None:
        disk.make_folder(self.folder)
        with disk.room_for(self.folder):
            disk.write(self.folder / f"{name}.json", to_json(record))

    def remove(self, name: str) -> None:
        """Remove this record."""
        self.known.pop(name, None)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
