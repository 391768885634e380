"""Versions of each name: a manifest, written last, and a folder of links to its blobs."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from llmos.abi.error import BadInput
from llmos.abi.model import NAME, DatasetManifest, File, Manifest
from llmos.abi.wire import from_json, to_json
from llmos.kernel.store import disk
from llmos.kernel.store.blobs import Blobs, check_path, digest_of

M = TypeVar("M", Manifest, DatasetManifest)
GONE = ".gone"  # a removed version's manifest, so that its number is not given out again


@dataclass(frozen=True, slots=True)
class Versions(Generic[M]):
    """Every version of every name in one folder, and the highest number of each name."""

    by_name: Mapping[str, Mapping[int, M]] = field(default_factory=dict)
    highest: Mapping[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[M]:
        return (manifest for versions in self.by_name.values() for manifest in versions.values())

    def of(self, name: str) -> Mapping[int, M]:
        return self.by_name.get(name, {})

    def next(self, name: str) -> int:
        return self.highest.get(name, 0) + 1

    def adding(self, manifest: M) -> Versions[M]:
        versions = {**self.of(manifest.name), manifest.version: manifest}
        highest = max(self.highest.get(manifest.name, 0), manifest.version)
        return Versions(
            {**self.by_name, manifest.name: dict(sorted(versions.items()))}, {**self.highest, manifest.name: highest}
        )

    def removing(self, manifest: M) -> Versions[M]:
        """The versions without this one.

        A name without versions keeps only its highest number, which is not given out again.
        """
        left = {number: kept for number, kept in self.of(manifest.name).items() if number != manifest.version}
        others = {name: kept for name, kept in self.by_name.items() if name != manifest.name}
        return replace(self, by_name={**others, manifest.name: left} if left else others)


class VersionFolders(Generic[M]):
    """The manifests in `<manifests>/<name>/<version>.json` and the links in `<folders>/<name>/<version>/`."""

    def __init__(self, kind: type[M], manifests: Path, folders: Path, blobs: Blobs) -> None:
        self._kind: type[M] = kind
        self._manifests, self._folders, self._blobs = manifests, folders, blobs
        self._address = str(folders)
        disk.make_folder(manifests)
        disk.make_folder(folders)

    def paper(self, name: str) -> Path:
        """The folder of a name's manifests."""
        return self._manifests / name

    def folder(self, manifest: M) -> Path:
        """The folder of this version's files."""
        return self._folders / manifest.name / str(manifest.version)

    def address(self, manifest: M) -> str:
        """The same as text, for the serving path, where building a Path costs more than the rest of a lookup."""
        return f"{self._address}/{manifest.name}/{manifest.version}"

    def read(self) -> tuple[Versions[M], list[str]]:
        """The versions on the disk, and the paths of unreadable manifests; half-written files are removed."""
        versions: Versions[M] = Versions()
        damaged: list[str] = []
        for folder in sorted(self._manifests.iterdir()):
            if not folder.is_dir() or not NAME.fullmatch(folder.name):
                continue
            disk.sweep(folder)
            pages = [path for path in folder.iterdir() if path.suffix in (".json", GONE) and path.stem.isdecimal()]
            there = [path for path in pages if path.suffix != GONE]
            for path in there:
                try:
                    versions = versions.adding(self._check(path))
                except BadInput:
                    damaged.append(str(path))
            if not there:
                self._prune(folder)  # left by a kill before a first manifest, or after a last one
            highest = max((int(path.stem) for path in pages), default=0)
            versions = replace(versions, highest={**versions.highest, folder.name: highest})
        for manifest in versions:
            if not all(self._shows(manifest, file) for file in manifest.files):
                self.link(manifest)
        return versions, damaged

    def _check(self, path: Path) -> M:
        manifest = from_json(path.read_bytes(), self._kind)
        if (manifest.name, str(manifest.version)) != (path.parent.name, path.stem):
            raise BadInput(f"{path} is the manifest of {manifest.ref}")
        for file in manifest.files:
            check_path(file.path)
        return manifest

    def _shows(self, manifest: M, file: File) -> bool:
        try:
            return (self.folder(manifest) / file.path).stat().st_size == file.size_bytes
        except OSError:
            return False

    def missing(self, manifest: M) -> list[str]:
        """The files of this version that are missing or have the wrong size; a cheap check."""
        return [file.path for file in manifest.files if not self._shows(manifest, file)]

    def put(self, manifest: M) -> None:
        """Link the files, then write the manifest, which makes the version visible."""
        self.link(manifest)
        disk.make_folder(self.paper(manifest.name))
        disk.write(self._page(manifest), to_json(manifest))

    def link(self, manifest: M) -> None:
        """Rebuild the folder of links from the blobs."""
        path = self.folder(manifest)
        aside = disk.temporary(path)
        disk.make_folder(path.parent)
        try:
            aside.mkdir()
            for file in manifest.files:
                (aside / file.path).parent.mkdir(parents=True, exist_ok=True)
                if self._blobs.has(file):
                    disk.link(self._blobs.path(file.digest), aside / file.path)
            disk.replace_folder(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def drop(self, manifest: M, *, is_last: bool) -> None:
        """Remove a version in one rename; the last one removes the name, except for its number."""
        page = self._page(manifest)
        page.rename(page.with_suffix(GONE))
        disk.sync(page.parent)
        folder = self.folder(manifest)
        shutil.rmtree(folder, ignore_errors=True)
        if is_last:
            self._prune(page.parent)
            if folder.parent != page.parent:
                shutil.rmtree(folder.parent, ignore_errors=True)

    def undo(self, manifest: M, *, is_first: bool) -> None:
        """Remove everything of a version that could not be written."""
        self._page(manifest).unlink(missing_ok=True)
        if is_first:
            self._prune(self.paper(manifest.name))
        shutil.rmtree(self.folder(manifest), ignore_errors=True)

    def _prune(self, folder: Path) -> None:
        """Clean up a name without versions: only its highest number stays, if it ever had one."""
        pages = list(folder.iterdir()) if folder.exists() else []
        if any(page.suffix == ".json" and page.stem.isdecimal() for page in pages):
            return  # an unreadable one is still there
        gone = max((page for page in pages if page.suffix == GONE), key=lambda page: int(page.stem), default=None)
        for page in pages:
            if page.is_dir():  # links without a manifest
                shutil.rmtree(page)
            elif page != gone:
                page.unlink()
        if gone is None:
            shutil.rmtree(folder, ignore_errors=True)
        disk.sync(self._manifests if gone is None else folder)

    def orphans(self, versions: Versions[M]) -> list[Path]:
        """Folders of links without a manifest, readable or not."""
        return [
            folder
            for name in self._folders.iterdir()
            if name.is_dir()
            for folder in name.iterdir()
            if folder.is_dir()
            and not (folder.name.isdecimal() and int(folder.name) in versions.of(name.name))
            and not (self.paper(name.name) / f"{folder.name}.json").exists()
        ]

    def unreadable(self, versions: Versions[M]) -> dict[str, int]:
        """The pages that are unreadable, with their paths and version numbers."""
        return {
            str(page): int(page.stem)
            for folder in self._manifests.iterdir()
            if folder.is_dir() and NAME.fullmatch(folder.name)
            for page in folder.glob("*.json")
            if page.stem.isdecimal() and int(page.stem) not in versions.of(folder.name)
        }

    def shows_damage(self, manifest: M, mended: Collection[str], offered: Collection[str]) -> bool:
        """Whether its folder links other bytes than its manifest says.

        These are the old bytes of a replaced blob, or those of an offered digest before an interrupted repair.
        """
        return any(
            file.digest in mended or (file.digest in offered and not self._is_sound(manifest, file))
            for file in manifest.files
        )

    def _is_sound(self, manifest: M, file: File) -> bool:
        folder = self.folder(manifest)
        try:  # on disks without hard links, read the file
            return self._is_in(folder, file) or digest_of(folder / file.path) == file.digest
        except FileNotFoundError:
            return False

    def lost(self, manifest: M, versions: Versions[M]) -> int | None:
        """The version number of an unreadable page with these files; None if there is none."""
        for path, number in self.unreadable(versions).items():
            folder = self._folders / manifest.name / str(number)
            if Path(path).parent.name == manifest.name and all(self._is_in(folder, file) for file in manifest.files):
                return number
        return None

    def _is_in(self, folder: Path, file: File) -> bool:
        try:
            return (folder / file.path).samefile(self._blobs.path(file.digest))
        except OSError:
            return False

    def kept_for(self, page: str) -> Path:
        """The folder of links of an unreadable page."""
        path = Path(page)
        return self._folders / path.parent.name / path.stem

    def is_written(self, manifest: M) -> bool:
        """Whether the page on the disk has this manifest."""
        try:
            return self._check(self._page(manifest)) == manifest
        except (OSError, BadInput):
            return False

    def write(self, manifest: M) -> None:
        """Write the page of a version whose files are linked already."""
        disk.write(self._page(manifest), to_json(manifest))

    def _page(self, manifest: M) -> Path:
        return self.paper(manifest.name) / f"{manifest.version}.json"
