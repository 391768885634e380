"""Resident forms: a base's weights in the dtype a device computes in, with its tokenizer, template and configs.

They are derived, so a lost one is made again. A form's name covers everything that it depends on: the digests of the
base's files, the dtype, and the version of the code that makes it. So a repaired tokenizer or chat template gives
another form.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.model import NAME, File, Manifest, content_digest
from llmos.abi.wire import from_json, to_json
from llmos.kernel.store import disk
from llmos.kernel.store.blobs import Blobs, Staged, digest_of

LAYOUT = 2  # raised whenever nn/resident.py would write a different form of the same files
MAKERS = ("transformers", "tokenizers")  # their versions decide the names of tensors and the conversion of tokenizers
PAGE = "resident.json"  # the list of files, written into the folder before the folder gets its name


def form_key(base: Manifest) -> str:
    """The prefix of the names of all forms of this base, in any dtype."""
    return _key(base.files)


def form_name(base: Manifest, dtype: str) -> str:
    """The name under `resident/` of a base's form in one dtype."""
    return f"{form_key(base)}-{dtype}"


@lru_cache(maxsize=256)
def _key(files: tuple[File, ...]) -> str:
    made = "\n".join((f"layout {LAYOUT}", *_makers(), content_digest(files)))
    return hashlib.sha256(made.encode()).hexdigest()[:32]


@cache
def _makers() -> tuple[str, ...]:
    return tuple(map(_version, MAKERS))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # not installed: then nothing is made here
        return f"{package} none"


@dataclass(frozen=True, slots=True)
class Page:
    """The files of one resident form."""

    files: tuple[File, ...]


class ResidentForms:
    """The folder `resident/`."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self._folder, self._blobs = folder, blobs
        disk.make_folder(folder)

    def path(self, name: str) -> Path:
        return self._folder / name

    def read(self) -> frozenset[str]:
        """The names of the complete ones; one that lost a file is removed, because it can be made again."""
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
        """Its files with their paths; empty if it was just lost."""
        try:
            page = from_json((self.path(name) / PAGE).read_bytes(), Page)
        except (OSError, BadInput):
            return {}
        return {self.path(name) / file.path: file for file in page.files}

    def size_bytes(self, name: str) -> int:
        return sum(file.size_bytes for file in self.files(name).values())

    def twins(self, names: Iterable[str], staged: Iterable[Staged]) -> dict[str, Path]:
        """Which of these files, by digest, another of these forms has byte for byte.

        For example the weights, if only the tokenizer differs. It reads the files it finds.
        """
        wanted = {one.file.digest: one.file for one in staged}
        found: dict[str, Path] = {}
        for name in names:
            for path, file in self.files(name).items():
                if wanted.get(file.digest) is not None and file.digest not in found and _is_sound(path, file):
                    found[file.digest] = path
        return found

    def put(self, name: str, staged: tuple[Staged, ...], twins: Mapping[str, Path]) -> None:
        """Show these files under the name, in one rename.

        Bytes that exist already, as a sound blob or in another form, are linked: one file is also one set of pages in
        memory.
        """
        if any(one.file.path == PAGE for one in staged):
            raise BadInput(f"{PAGE} is written by the store itself. Leave it out of the offer")
        path = self.path(name)
        aside = disk.temporary(path)
        try:
            aside.mkdir()
            for one in staged:
                target = aside / one.file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                twin = twins.get(one.file.digest)
                is_there = twin is not None and twin.exists()  # the form that had it may have been dropped
                disk.link(twin if twin is not None and is_there else one.source, target)
            disk.write(aside / PAGE, to_json(Page(tuple(one.file for one in staged))))
            disk.replace_folder(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def check(self, name: str) -> None:
        """Raise Corrupt unless every file has its digest."""
        page = from_json((self.path(name) / PAGE).read_bytes(), Page)
        for file in page.files:
            self._blobs.check(file, self.path(name) / file.path)


def _is_sound(path: Path, file: File) -> bool:
    try:
        return path.stat().st_size == file.size_bytes and digest_of(path) == file.digest
    except OSError:  # it was removed meanwhile
        return False
