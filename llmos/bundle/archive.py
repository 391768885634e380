"""The two shapes of a bundle, written and read file by file: a folder, or a tar file with one folder in it."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from llmos.abi.error import BadInput, Conflict, Corrupt, NotFound
from llmos.backup.stable_copy import HashingReader, pour
from llmos.bundle.record import MANIFEST, SUMS, BundleFile, BundleManifest, decode_manifest
from llmos.kernel.store import disk

TAR = ".tar"
Show = Callable[[str, int, int], None]  # what is done now, and how many of how many bytes


class BundleWriter(Protocol):
    """A bundle being written. `place` is where it is until it has its name."""

    place: Path

    def add(self, path: str, source: BinaryIO, size_bytes: int) -> BundleFile:
        """Write one file, and return its digest as it was read from the source."""
        ...

    def finish(self) -> None:
        """Write out what is held back."""
        ...


class FolderWriter:
    """A bundle as a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()

    def add(self, path: str, source: BinaryIO, size_bytes: int) -> BundleFile:
        target = self.place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as copy:
            measure = pour(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        return BundleFile(path, measure.digest, measure.size_bytes)

    def finish(self) -> None:
        for folder, _, _ in os.walk(self.place):
            disk.sync(Path(folder))


class TarWriter:
    """A bundle as a tar file; its files lie in a folder of the tar file's own name."""

    def __init__(self, place: Path, top: str) -> None:
        self.place, self._top = place, top
        self._tar = tarfile.open(place, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # closed by `finish`

    def add(self, path: str, source: BinaryIO, size_bytes: int) -> BundleFile:
        entry = tarfile.TarInfo(f"{self._top}/{path}")
        entry.size = size_bytes
        reader = HashingReader(source)
        self._tar.addfile(entry, cast(BinaryIO, reader))
        return BundleFile(path, reader.hexdigest(), size_bytes)

    def finish(self) -> None:
        self._tar.close()


@contextmanager
def writing(target: Path) -> Iterator[BundleWriter]:
    """A bundle beside its target under another name, for `commit`; what is not committed is removed.

    Conflict if the target is there already.
    """
    _check_free(target)
    disk.make_folder(target.parent)
    for half in disk.temporaries(target):  # what a killed one has left
        shutil.rmtree(half) if half.is_dir() else half.unlink(missing_ok=True)
    aside = disk.temporary(target)
    writer: BundleWriter = TarWriter(aside, target.stem) if target.suffix == TAR else FolderWriter(aside)
    try:
        yield writer
    finally:
        if aside.exists():
            with suppress(OSError):  # it is removed, and a full disk is said already
                writer.finish()
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink(missing_ok=True)


def commit(writer: BundleWriter, target: Path) -> None:
    """Give a finished and verified bundle its name."""
    _check_free(target)
    disk.sync(writer.place)
    if target.is_dir():
        target.rmdir()  # an empty one
    writer.place.rename(target)
    disk.sync(target.parent)


def _check_free(target: Path) -> None:
    is_empty = target.is_dir() and target.suffix != TAR and not any(target.iterdir())
    if target.exists() and not is_empty:
        raise Conflict(f"{target} is there already, and a bundle overwrites nothing. Name another", path=str(target))


class FolderBundle:
    """A bundle in a folder."""

    def __init__(self, folder: Path) -> None:
        self.place = folder

    def open(self, path: str) -> BinaryIO:
        """This file; Corrupt if it is not there."""
        try:
            return (self.place / path).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise _lost_file(path, self.place) from error


class TarBundle:
    """A bundle in a tar file."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._file = place.open("rb")
        try:
            self._tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115  # closed by `close`
            self._entries = {one.name.partition("/")[2]: one for one in self._tar if one.isreg()}
        except (tarfile.TarError, EOFError) as error:
            self._file.close()
            raise Corrupt(f"{place} is no whole tar file: {error}. Copy it again", path=str(place)) from error

    def open(self, path: str) -> BinaryIO:
        """This file; Corrupt if it is not there."""
        if path not in self._entries:
            raise _lost_file(path, self.place)
        return cast(BinaryIO, self._tar.extractfile(self._entries[path]))

    def close(self) -> None:
        self._tar.close()
        self._file.close()


Reader = FolderBundle | TarBundle


@contextmanager
def reading(source: Path) -> Iterator[Reader]:
    """The bundle in a folder or tar file; NotFound if there is nothing."""
    if not source.exists():
        raise NotFound(f"There is no bundle at {source}", path=str(source))
    if source.is_dir():
        if not (source / MANIFEST).exists():
            raise BadInput(f"{source} is no bundle: it has no {MANIFEST}", path=str(source))
        yield FolderBundle(source)
        return
    tar = TarBundle(source)
    try:
        yield tar
    finally:
        tar.close()


def read_manifest(reader: Reader) -> BundleManifest:
    """What the bundle says of itself; Corrupt if that is damaged."""
    with reader.open(MANIFEST) as manifest, reader.open(SUMS) as sums:
        return decode_manifest(manifest.read(), sums.read(), str(reader.place))


def verify(reader: Reader, files: tuple[BundleFile, ...], show: Show) -> int:
    """Read these files and compare their digests; returns the bytes read. Corrupt for the first wrong one."""
    done, total = 0, sum(file.size_bytes for file in files)
    for file in files:
        show("verifying", done, total)
        with reader.open(file.path) as stored:
            measure = pour(stored, None)
        if (measure.digest, measure.size_bytes) != (file.sha256, file.size_bytes):
            raise Corrupt(
                f"The bundle is damaged: {file.path} is not what was written. Copy it again, or make it anew",
                path=file.path,
            )
        done += file.size_bytes
    show("verifying", done, total)
    return done


def in_memory(data: bytes) -> BinaryIO:
    """These bytes as a file to add."""
    return io.BytesIO(data)


def _lost_file(path: str, place: Path) -> Corrupt:
    return Corrupt(f"The bundle {place} has lost {path}. Copy it again, or make it anew", path=path)
