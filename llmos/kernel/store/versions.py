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
GONE = ".gone"  # a removed version's manifest: it keeps its number from being given again


@dataclass(frozen=True, slots=True)
class Versions(Generic[M]):
    """Every version of every name in one folder, and the highest number each name has had."""

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
        """Without this version; with its last version a name goes, but for its highest number: none comes twice."""
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
        """Where the files of this version lie under their paths."""
        return self._folders / manifest.name / str(manifest.version)

    def address(self, manifest: M) -> str:
        """The same as text, for the serving path, where a Path costs more than all the rest of a lookup."""
        return f"{self._address}/{manifest.name}/{manifest.version}"

    def read(self) -> tuple[Versions[M], list[str]]:
        """What the disk holds, and the paths of manifests that cannot be read; half-written things are swept."""
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
                self._prune(folder)  # what a kill before a first manifest, or behind a last one, left
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
        """The files of this version that are not there, or not whole, by the cheap look."""
        return [file.path for file in manifest.files if not self._shows(manifest, file)]

    def put(self, manifest: M) -> None:
        """Show the files, then the manifest: it is visible from that last rename on."""
        self.link(manifest)
        disk.make_folder(self.paper(manifest.name))
        disk.write(self._page(manifest), to_json(manifest))

    def link(self, manifest: M) -> None:
        """Make the folder of links anew from the blobs that are there."""
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
        """Remove a version in one rename; with the last version the name goes, but for its number."""
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
        """Leave nothing of a version that could not be put whole."""
        self._page(manifest).unlink(missing_ok=True)
        if is_first:
            self._prune(self.paper(manifest.name))
        shutil.rmtree(self.folder(manifest), ignore_errors=True)

    def _prune(self, folder: Path) -> None:
        """Of a name without versions its highest number stays; where it never had any, nothing."""
        pages = list(folder.iterdir()) if folder.exists() else []
        if any(page.suffix == ".json" and page.stem.isdecimal() for page in pages):
            return  # one that cannot be read is still there
        gone = max((page for page in pages if page.suffix == GONE), key=lambda page: int(page.stem), default=None)
        for page in pages:
            if page.is_dir():  # links that no manifest stands behind
                shutil.rmtree(page)
            elif page != gone:
                page.unlink()
        if gone is None:
            shutil.rmtree(folder, ignore_errors=True)
        disk.sync(self._manifests if gone is None else folder)

    def orphans(self, versions: Versions[M]) -> list[Path]:
        """Folders of links that no manifest stands behind, readable or not."""
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
        """The pages that stand for no version here, as they cannot be read: their paths, and how they are numbered."""
        return {
            str(page): int(page.stem)
            for folder in self._manifests.iterdir()
            if folder.is_dir() and NAME.fullmatch(folder.name)
            for page in folder.glob("*.json")
            if page.stem.isdecimal() and int(page.stem) not in versions.of(folder.name)
        }

    def shows_damage(self, manifest: M, mended: Collection[str], offered: Collection[str]) -> bool:
        """Its folder shows other bytes than its manifest says: the old ones of a mended blob, or those that the blob
        of an offered digest had before a mending that was stopped."""
        return any(
            file.digest in mended or (file.digest in offered and not self._is_sound(manifest, file))
            for file in manifest.files
        )

    def _is_sound(self, manifest: M, file: File) -> bool:
        folder = self.folder(manifest)
        try:  # without links to tell by, as on some disks, it is read
            return self._is_in(folder, file) or digest_of(folder / file.path) == file.digest
        except FileNotFoundError:
            return False

    def lost(self, manifest: M, versions: Versions[M]) -> int | None:
        """The number of a version whose page cannot be read and whose files are these; None if there is none."""
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
        """The page on the disk says what is known of this version."""
        try:
            return self._check(self._page(manifest)) == manifest
        except (OSError, BadInput):
            return False

    def write(self, manifest: M) -> None:
        """Write the page of a version whose files lie here already."""
        disk.write(self._page(manifest), to_json(manifest))

    def _page(self, manifest: M) -> Path:
        return self.paper(manifest.name) / f"{manifest.version}.json"
