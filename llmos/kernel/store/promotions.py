"""Promotion history: which versions a name has meant, as a small file beside its manifests."""

from __future__ import annotations

from collections.abc import Iterable

from llmos.abi.error import BadInput
from llmos.abi.model import Manifest
from llmos.abi.wire import from_json, to_json
from llmos.kernel.store import disk
from llmos.kernel.store.versions import VersionFolders, Versions

PROMOTED = "promoted.json"

History = tuple[int, ...]  # the last one is in force; rollback returns to the one before


class Promotions:
    """Reads and writes the histories of every name in a folder of versions."""

    def __init__(self, shelf: VersionFolders[Manifest]) -> None:
        self._shelf = shelf

    def read(self, versions: Versions[Manifest]) -> tuple[dict[str, History], list[str]]:
        """Every name's history, and the paths of unreadable ones."""
        histories: dict[str, History] = {}
        damaged: list[str] = []
        for name, there in versions.by_name.items():
            try:
                histories[name] = still_there(self._read(name), there)
            except BadInput:
                histories[name] = ()
                damaged.append(str(self._shelf.paper(name) / PROMOTED))
        return histories, damaged

    def write(self, name: str, history: History) -> None:
        disk.make_folder(self._shelf.paper(name))
        disk.write(self._shelf.paper(name) / PROMOTED, to_json(history))

    def is_written(self, name: str, history: History, versions: Iterable[int]) -> bool:
        """Whether the file on the disk has this history."""
        try:
            return still_there(self._read(name), versions) == tuple(history)
        except (OSError, BadInput):
            return False

    def path(self, name: str) -> str:
        return str(self._shelf.paper(name) / PROMOTED)

    def _read(self, name: str) -> History:
        try:
            return from_json((self._shelf.paper(name) / PROMOTED).read_bytes(), tuple[int, ...])
        except FileNotFoundError:
            return ()


def still_there(history: Iterable[int], versions: Iterable[int]) -> History:
    """A history without removed versions, and without promotions that then change nothing."""
    there = set(versions)
    kept = [number for number in history if number in there]
    return tuple(number for i, number in enumerate(kept) if i == 0 or kept[i - 1] != number)
