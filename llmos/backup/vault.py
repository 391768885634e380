"""Where backups are kept: a folder of objects by digest, to which each backup adds what is new; or one tar file.

In both, the record comes last: what has no record is no backup, whenever a kill or a power cut happens.
"""

from __future__ import annotations

import fcntl
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from llmos.abi.error import BadInput, Conflict, Corrupt, NotFound
from llmos.backup.record import BackupRecord, decode_record, encode_record
from llmos.backup.stable_copy import HashingReader, Measure, copy_stable, pour
from llmos.kernel.store import disk

OBJECTS, RECORDS, LOCK = "objects", "backups", "lock"
RECORD = "backup.json"  # of a tar file
TAR = ".tar"
ID = re.compile(r"\d{8}T\d{6}-\d{6}")  # the time in UTC, to the microsecond


Show = Callable[[str, int, int], None]  # what is done now, and how many of how many bytes


class Vault(Protocol):
    """A place for backups that is being written. `earlier` are the objects of the backups before."""

    folder: Path
    earlier: frozenset[str]

    def has(self, digest: str, size_bytes: int) -> bool:
        """Whether it has this object, from now or from an earlier backup."""
        ...

    def is_sound(self, digest: str) -> bool:
        """Whether the object that it has is what was written."""
        ...

    def add(self, source: Path, digest: str = "") -> Measure:
        """Copy a file in. With a `digest` the file never changes; Corrupt if its bytes have another one."""
        ...

    def seal(self, record: BackupRecord) -> None:
        """Finish the backup: from here on it exists."""
        ...


class FolderVault:
    """A folder that keeps several backups; equal files are stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._objects = folder / OBJECTS
        self.earlier = (
            frozenset(path.name for path in self._objects.iterdir()) if self._objects.is_dir() else frozenset()
        )

    def has(self, digest: str, size_bytes: int) -> bool:
        with suppress(FileNotFoundError):
            return (self._objects / digest).stat().st_size == size_bytes
        return False

    def is_sound(self, digest: str) -> bool:
        with self.open(digest) as file:
            return pour(file, None).digest == digest

    def add(self, source: Path, digest: str = "") -> Measure:
        aside = disk.temporary(self._objects / "object")
        try:
            measure = copy_stable(source, aside)
            _check_digest(source, digest, measure)
            aside.chmod(0o400)
            aside.replace(self._objects / measure.digest)
        finally:
            aside.unlink(missing_ok=True)
        return measure

    def seal(self, record: BackupRecord) -> None:
        disk.sync(self._objects)
        disk.write(self.folder / RECORDS / f"{record.id}.json", encode_record(record))

    def records(self) -> list[BackupRecord]:
        """The backups, oldest first; Corrupt if one is damaged."""
        return [self._read(path) for path in self._pages()]

    def record(self, name: str | None = None) -> BackupRecord:
        """The newest backup, or the one of this id; NotFound if there is none."""
        pages = [path for path in self._pages() if name in (None, path.stem)]
        if not pages:
            has = ", ".join(path.stem for path in self._pages()) or "none"
            raise NotFound(f"{self.folder} has no backup {name or ''}. It has: {has}", path=str(self.folder))
        return self._read(pages[-1])

    def open(self, digest: str) -> BinaryIO:
        try:
            return (self._objects / digest).open("rb")
        except FileNotFoundError as error:
            raise _lost_object(digest, self.folder) from error

    def keep(self, count: int) -> int:
        """Remove all but the newest backups, and the objects that none of these needs; returns the freed bytes."""
        for page in self._pages()[:-count]:
            page.unlink()
        disk.sync(self.folder / RECORDS)
        needed = {digest for record in self.records() for digest in record.objects}
        gone = [path for path in self._objects.iterdir() if path.name not in needed]
        freed = sum(path.stat().st_size for path in gone)
        for path in gone:
            path.unlink()
        return freed

    def _pages(self) -> list[Path]:
        folder = self.folder / RECORDS
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in found if path.suffix == ".json" and ID.fullmatch(path.stem))

    def _read(self, path: Path) -> BackupRecord:
        return decode_record(path.read_bytes(), str(path))


@contextmanager
def writing_folder(folder: Path) -> Iterator[FolderVault]:
    """The folder for one backup, made if it is not there; Conflict if it holds other things or is in use."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file. A backup in one file ends with {TAR}; a folder keeps several")
    others = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others and not (folder / RECORDS).is_dir():
        raise Conflict(f"{folder} holds other things ({others[0]}). Name an empty or a new folder", path=str(folder))
    for one in (folder / RECORDS, folder / OBJECTS):
        disk.make_folder(one)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another backup is being written to {folder}. Wait for it", path=str(folder)) from None
        for half in (folder / RECORDS, folder / OBJECTS):
            disk.sweep(half)
        yield FolderVault(folder)


class TarVault:
    """One tar file being written: objects by digest, then the record."""

    def __init__(self, aside: Path) -> None:
        self.folder, self.earlier = aside.parent, frozenset[str]()
        self.aside = aside
        self._tar = tarfile.open(aside, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # closed by `close`
        self._added: dict[str, int] = {}

    def has(self, digest: str, size_bytes: int) -> bool:
        return self._added.get(digest) == size_bytes

    def is_sound(self, digest: str) -> bool:
        return True  # it was hashed as it was written, a moment ago

    def add(self, source: Path, digest: str = "") -> Measure:
        copy = self.aside.with_name(f"{self.aside.name}-part")
        try:
            measure = copy_stable(source, copy) if not digest else Measure(digest, source.stat().st_size)
            if not self.has(measure.digest, measure.size_bytes):
                with (source if digest else copy).open("rb") as file:
                    reader = HashingReader(file)
                    self._write(f"{OBJECTS}/{measure.digest}", reader, measure.size_bytes)
                _check_digest(source, measure.digest, Measure(reader.hexdigest(), measure.size_bytes))
                self._added[measure.digest] = measure.size_bytes
        finally:
            copy.unlink(missing_ok=True)
        return measure

    def seal(self, record: BackupRecord) -> None:
        data = encode_record(record)
        copy = self.aside.with_name(f"{self.aside.name}-part")
        try:
            copy.write_bytes(data)
            with copy.open("rb") as file:
                self._write(RECORD, file, len(data))
        finally:
            copy.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        self._tar.close()

    def _write(self, name: str, file: object, size_bytes: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size_bytes, 0o400
        self._tar.addfile(entry, cast(BinaryIO, file))


class TarReader:
    """A finished tar file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        try:
            self._tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115  # closed by `close`
            self._entries = {entry.name: entry for entry in self._tar if entry.isreg()}
        except (tarfile.TarError, EOFError) as error:
            self._file.close()
            raise Corrupt(f"{path} is no whole tar file: {error}. Use another backup", path=str(path)) from error

    def record(self, name: str | None = None) -> BackupRecord:
        if RECORD not in self._entries:
            raise Corrupt(f"{self._path} is no backup of llmos, or only its beginning", path=str(self._path))
        found = decode_record(self._read(RECORD).read(), f"{RECORD} in {self._path}")
        if name not in (None, found.id):
            raise NotFound(f"{self._path} holds the backup {found.id}, not {name}", path=str(self._path))
        return found

    def records(self) -> list[BackupRecord]:
        return [self.record()]

    def open(self, digest: str) -> BinaryIO:
        if f"{OBJECTS}/{digest}" not in self._entries:
            raise _lost_object(digest, self._path)
        return self._read(f"{OBJECTS}/{digest}")

    def close(self) -> None:
        self._tar.close()
        self._file.close()

    def _read(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._tar.extractfile(self._entries[name]))


Reader = FolderVault | TarReader


@contextmanager
def writing_file(path: Path) -> Iterator[TarVault]:
    """A tar file under another name; `commit_file` gives it its own. What is not committed is removed."""
    _check_free(path)
    disk.make_folder(path.parent)
    for half in path.parent.glob(f"{disk.TEMPORARY}{path.name}-*"):  # what a killed backup to this file has left
        half.unlink(missing_ok=True)
    vault = TarVault(disk.temporary(path))
    try:
        yield vault
    finally:
        vault.close()
        vault.aside.unlink(missing_ok=True)


def commit_file(vault: TarVault, path: Path) -> None:
    """Give a finished and verified tar file its name; Conflict if another one came there meanwhile."""
    vault.aside.chmod(0o600)
    disk.sync(vault.aside)
    try:
        os.link(vault.aside, path)
    except FileExistsError:
        _check_free(path)
    except OSError:  # a file system without links
        _check_free(path)
        vault.aside.replace(path)
    disk.sync(path.parent)


def _check_free(path: Path) -> None:
    if path.exists():
        raise Conflict(f"{path} is there already, and a backup overwrites nothing. Name another file", path=str(path))


@contextmanager
def reading(source: Path) -> Iterator[Reader]:
    """The backups in a folder or file; NotFound if there is nothing."""
    if not source.exists():
        raise NotFound(f"There is no backup at {source}", path=str(source))
    if source.is_dir():
        yield FolderVault(source)
        return
    tar = TarReader(source)
    try:
        yield tar
    finally:
        tar.close()


def verify_objects(reader: Reader, objects: dict[str, int], show: Show) -> int:
    """Read these objects back and compare their digests; returns the bytes read. Corrupt for the first wrong one."""
    done, total = 0, sum(objects.values())
    for digest, size_bytes in objects.items():
        show("verifying", done, total)
        with reader.open(digest) as file:
            measure = pour(file, None)
        if (measure.digest, measure.size_bytes) != (digest, size_bytes):
            raise Corrupt(
                f"The object {digest[:16]}… of the backup is not what was written. Use another backup or disk"
            )
        done += size_bytes
    show("verifying", done, total)
    return done


def need_room(folder: Path, need_bytes: int) -> None:
    """Raise DiskFull, with the numbers, unless so much is free."""
    while not folder.exists():
        folder = folder.parent
    with disk.room_for(folder, need_bytes + disk.MARGIN_BYTES):
        pass


def _check_digest(source: Path, digest: str, measure: Measure) -> None:
    if digest and measure.digest != digest:
        raise Corrupt(
            f"{source} is damaged on the disk: it should hash to {digest[:16]}… and gives {measure.digest[:16]}…. "
            "See what is damaged and how to mend it: llmos doctor --deep",
            path=str(source),
            expected=digest,
            actual=measure.digest,
        )


def _lost_object(digest: str, place: Path) -> Corrupt:
    return Corrupt(f"{place} has lost the object {digest[:16]}…. Use another backup", path=str(place), digest=digest)
