"""A durable copy of the journal's last snapshot, from which a damaged journal is restored."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from llmos.abi.error import Corrupt, LlmosError
from llmos.kernel.earlier_names import current
from llmos.kernel.processes.pending_commits import PendingCommits
from llmos.kernel.processes.process_runtime import Snapshot
from llmos.kernel.store import disk

SUFFIX = ".snapshot"
FORM = 1
log = logging.getLogger(__name__)


class Head(msgspec.Struct, frozen=True):
    """The first line of the file: a description of the rest, and the last event that it includes."""

    form: int
    at: float
    sequence: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of a snapshot, with its checksum verified."""

    path: Path
    at: float
    sequence: int
    body: bytes

    @property
    def taken_at(self) -> str:
        """When it was taken, for people."""
        return datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def decode(self) -> Snapshot:
        """The table in it; Corrupt if it is another version's."""
        try:
            return msgspec.json.decode(current(bytes(self.body)), type=Snapshot)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _unreadable(self.path, str(error)) from error


def place(journal: Path) -> Path:
    """The path of this journal's copy."""
    return journal.with_suffix(SUFFIX)


def exists(journal: Path) -> bool:
    return place(journal).exists()


def keep(journal: Path, sequence: int, body: bytes) -> None:
    """Write the copy atomically; on a full disk the previous one stays, which is logged."""
    try:
        disk.write(place(journal), encode(sequence, body, time.time()))
    except (OSError, LlmosError) as error:
        log.warning("the snapshot beside the journal stays as it was: %s", error)


def encode(sequence: int, body: bytes, at: float) -> bytes:
    """The bytes of a copy."""
    head = Head(FORM, at, sequence, hashlib.sha256(body).hexdigest())
    return msgspec.json.encode(head) + b"\n" + body


def read(journal: Path) -> Copy | None:
    """The copy; None if there is none, Corrupt if its checksum is wrong."""
    path = place(journal)
    try:
        first, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        head = msgspec.json.decode(first, type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    if head.form > FORM:
        raise _unreadable(path, f"a newer llmos wrote it (form {head.form})")
    if hashlib.sha256(body).hexdigest() != head.sha256:
        raise _unreadable(path, "its bytes are not what was written")
    return Copy(path, head.at, head.sequence, body)


def damage(journal: Path) -> str:
    """The damage of the copy, as a sentence; empty if there is none, or no copy."""
    try:
        if (kept := read(journal)) is not None:
            kept.decode()
    except Corrupt as error:
        return error.message
    return ""


def way_back(journal: Path) -> str:
    """How to continue without the journal, as a sentence."""
    files = " ".join(str(path) for path in (journal, *companions(journal), place(journal)) if path.exists())
    anew = f"Move it away to start without process history: mv {files} {journal.parent / 'run'}"
    try:
        kept = read(journal)
        if kept is None:
            return anew
        count = len(kept.decode().processes)
    except Corrupt as error:
        return f"{error.message}. {anew}"
    return f"Go back to the snapshot of {kept.taken_at} beside it ({count} processes): llmos up --restore. {anew}"


def as_of_now(snapshot: Snapshot, home: Path) -> Snapshot:
    """The snapshot adapted for a restart now: the store's old pending work is dropped, and no pid is reused."""
    used = (path.name.partition(".")[0] for room in ("logs", "scratch") for path in (home / room).glob("*"))
    last_pid = max([snapshot.last_pid, *(int(stem) for stem in used if stem.isdecimal() and len(stem) < 18)])
    return replace(snapshot, promises=PendingCommits(), last_pid=last_pid)


def companions(journal: Path) -> tuple[Path, Path]:
    """SQLite's files beside the journal."""
    return Path(f"{journal}-wal"), Path(f"{journal}-shm")


def set_aside(journal: Path) -> Path:
    """Rename the journal and its companions to a free name, and return it.

    The journal goes first: a kill in between leaves no journal, and never one without its companions.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    number = 0
    while True:
        named = journal.with_name(f"{journal.stem}.damaged-{stamp}{f'-{number}' if number else ''}.db")
        if not named.exists():
            break
        number += 1
    for old, new in zip((journal, *companions(journal)), (named, *companions(named)), strict=True):
        if old.exists():
            old.replace(new)
    disk.sync(journal.parent)
    return named


def _unreadable(path: Path, why: str) -> Corrupt:
    return Corrupt(f"The snapshot {path} cannot be read: {why}", path=str(path))
