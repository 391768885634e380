"""Restoring a home from a backup: every file verified, nothing overwritten, and no daemon starts on half of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.audit import OWNER, AuditEntry
from llmos.abi.error import BadInput, Conflict, Corrupt
from llmos.abi.wire import from_json, to_json
from llmos.backup.journal_state import JOURNAL, place
from llmos.backup.record import BackupFile, BackupRecord
from llmos.backup.stable_copy import Measure, pour
from llmos.backup.vault import Reader, Show, need_room, reading
from llmos.daemon import audit_of, holding_home
from llmos.home import daemon_of
from llmos.kernel import journal
from llmos.kernel.file_modes import RESTORING, make_private
from llmos.kernel.store import disk

LEFT = (RESTORING, "daemon.lock", "lost+found")  # what a home may hold before it holds something


@dataclass(frozen=True, slots=True)
class RestoredHome:
    """What was restored, and where the home that was there before is now."""

    record: BackupRecord
    home: Path
    moved_to: Path | None = None


def restore(
    source: Path,
    home: Path,
    name: str | None = None,
    *,
    is_forced: bool = False,
    show: Show = lambda phase, done, total: None,
) -> RestoredHome:
    """Restore the newest backup there, or the one of this id, to an empty home.

    Conflict if the home holds something; forced, that is moved aside first. A restore that was broken off is repeated.
    """
    make_private()
    with reading(source) as reader:
        record = reader.record(name)
        moved = _clear(home, source, record.id, is_forced=is_forced)
        need_room(home, record.size_bytes)
        disk.make_folder(home)
        with holding_home(home, is_restoring=True):
            disk.sweep(home)
            disk.write(home / RESTORING, to_json({"source": str(source), "id": record.id}))
            _write_all(reader, record, home, show)
            _verify(record, home, show)
            journal.restore(home / JOURNAL)
            (home / RESTORING).unlink()
            audit_of(home).append([AuditEntry(OWNER, "restore", record.id)])
            disk.sync(home)
    return RestoredHome(record, home, moved)


def _clear(home: Path, source: Path, name: str, *, is_forced: bool) -> Path | None:
    """Make sure that the home is empty; where what it held is now, if it was moved aside."""
    daemon = daemon_of(home) if home.is_dir() else None
    if daemon is not None:
        daemon.close()
        raise Conflict(f"A daemon runs on {home}. Stop it first: llmos down", home=str(home))
    if home.exists() and not home.is_dir():
        raise Conflict(f"{home} is a file. Name a folder: LLMOS_HOME", home=str(home))
    there = sorted(path.name for path in home.iterdir()) if home.is_dir() else []
    begun = _begun_id(home)
    if begun == name or not [one for one in there if one not in LEFT and not one.startswith(disk.TEMPORARY)]:
        return None  # empty, or a restore of the same backup was broken off here
    if begun is not None and not is_forced:
        raise Conflict(
            f"A restore of the backup {begun} to {home} was broken off. Repeat that one, or have the home moved aside: "
            "--force",
            home=str(home),
            begun=begun,
        )
    if not is_forced:
        raise Conflict(
            f"The home {home} holds something ({there[0]}), and a restore overwrites nothing. Name an empty one with "
            "LLMOS_HOME, or have this one moved aside: --force",
            home=str(home),
        )
    if source.resolve().is_relative_to(home.resolve()):
        raise Conflict(f"The backup {source} is inside the home that would be moved aside. Move it first")
    aside = home.with_name(f"{home.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    try:
        home.rename(aside)
    except OSError as error:
        raise Conflict(f"{home} cannot be moved aside: {error.strerror}. Empty it yourself", home=str(home)) from error
    disk.sync(home.parent)
    return aside


def _begun_id(home: Path) -> str | None:
    """The id of the backup whose restore was broken off here; empty if that is unknown."""
    try:
        return str(from_json((home / RESTORING).read_bytes(), dict[str, str]).get("id", ""))
    except FileNotFoundError:
        return None
    except BadInput:
        return ""


def _write_all(reader: Reader, record: BackupRecord, home: Path, show: Show) -> None:
    done, folders = 0, {(home / file.path).parent for file in record.files}
    for folder in folders:
        disk.make_folder(folder)
        disk.sweep(folder)  # what a restore that was broken off has left
    for file in record.files:
        show("restoring", done, record.size_bytes)
        _write(reader, file, home)
        done += file.size_bytes
    for folder in folders:
        disk.sync(folder)
    show("restoring", done, record.size_bytes)


def _write(reader: Reader, file: BackupFile, home: Path) -> None:
    target = home / file.path
    if _measure(target) == Measure(file.digest, file.size_bytes):
        return  # from a restore that was broken off
    aside = disk.temporary(target)
    try:
        with reader.open(file.digest) as stored, aside.open("wb") as copy:
            measure = pour(stored, copy)
        if measure != Measure(file.digest, file.size_bytes):
            raise Corrupt(
                f"The backup is damaged: {file.path} is not what was written. Use another one", path=file.path
            )
        disk.sync(aside)
        aside.chmod(file.mode)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _verify(record: BackupRecord, home: Path, show: Show) -> None:
    """Read every restored file again."""
    done = 0
    for file in record.files:
        show("verifying", done, record.size_bytes)
        if _measure(home / file.path) != Measure(file.digest, file.size_bytes):
            raise Corrupt(f"{home / file.path} is not what was written. Is the disk sound? Restore to another one")
        done += file.size_bytes
    if not place(home).exists():
        raise Corrupt("The backup has no journal, so it is none of a home. Use another one")
    show("verifying", done, record.size_bytes)


def _measure(path: Path) -> Measure | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return pour(file, None)
