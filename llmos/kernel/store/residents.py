"""Resident forms: a base's weights in the dtype a device computes in. Derived: one that is lost is made again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.model import NAME, File
from llmos.abi.wire import from_json, to_json
from llmos.kernel.store import disk
from llmos.kernel.store.blobs import Blobs, Staged

PAGE = "resident.json"  # what the folder holds; written into it before the folder gets its name


@dataclass(frozen=True, slots=True)
class Page:
    """The files of one resident form."""

    files: tuple[File, ...]


class Residents:
    """The folder `resident/`."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self._folder, self._blobs = folder, blobs
        disk.make_folder(folder)

    def path(self, name: str) -> Path:
        return self._folder / name

    def read(self) -> frozenset[str]:
        """The names of the whole ones; one that lost a file is removed, for it can be made again."""
        disk.sweep(self._folder)
        whole = set()
        for folder in self._folder.iterdir():
            if folder.is_dir() and NAME.fullmatch(folder.name):
                if self._is_whole(folder):
                    whole.add(folder.name)
                else:
                    shutil.rmtree(folder)
        return frozenset(whole)

    def _is_whole(self, folder: Path) -> bool:
        try:
            page = from_json((folder / PAGE).read_bytes(), Page)
            return all((folder / file.path).stat().st_size == file.size_bytes for file in page.files)
        except (OSError, BadInput):
            return False

    def files(self, name: str) -> dict[Path, File]:
        """Its files and where they lie; none if it has just been lost."""
        try:
            page = from_json((self.path(name) / PAGE).read_bytes(), Page)
        except (OSError, BadInput):
            return {}
        return {self.path(name) / file.path: file for file in page.files}

    def size_bytes(self, name: str) -> int:
        return sum(file.size_bytes for file in self.files(name).values())

    def put(self, name: str, staged: tuple[Staged, ...]) -> None:
        """Show these files under the name, in one rename; bytes that are a blob already are not kept twice."""
        if any(one.file.path == PAGE for one in staged):
            raise BadInput(f"{PAGE} is written by the store itself. Leave it out of the offer")
        path = self.path(name)
        aside = disk.temporary(path)
        try:
            aside.mkdir()
            for one in staged:
                target = aside / one.file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                disk.link(self._blobs.path(one.file.digest) if self._blobs.has(one.file) else one.source, target)
            disk.write(aside / PAGE, to_json(Page(tuple(one.file for one in staged))))
            disk.replace_folder(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def check(self, name: str) -> None:
        """Nothing if every file hashes to what it was; Corrupt otherwise."""
        page = from_json((self.path(name) / PAGE).read_bytes(), Page)
        for file in page.files:
            self._blobs.check(file, self.path(name) / file.path)
