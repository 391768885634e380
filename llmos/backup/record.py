"""What a backup says of itself: every file of the home by path and digest, with a checksum of this list."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

import msgspec

from llmos.abi.error import Corrupt

FORM = 1


class BackupFile(msgspec.Struct, frozen=True):
    """One file of the home: its path there, the sha256 of its bytes, and its mode."""

    path: str
    digest: str
    size_bytes: int
    mode: int


class BackupRecord(msgspec.Struct, frozen=True):
    """One backup. `id` sorts by time; `notes` are sentences about what is not in it and why."""

    id: str
    taken_at: float
    version: str  # of llmos
    home: str
    files: tuple[BackupFile, ...]
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The bytes of the restored home."""
        return sum(file.size_bytes for file in self.files)

    @property
    def objects(self) -> dict[str, int]:
        """The sizes of what has to be stored, by digest."""
        return {file.digest: file.size_bytes for file in self.files}


class RecordHead(msgspec.Struct, frozen=True):
    """The first line of a record's file."""

    form: int
    sha256: str


def encode_record(record: BackupRecord) -> bytes:
    """The bytes of a record's file."""
    body = msgspec.json.encode(record)
    return msgspec.json.encode(RecordHead(FORM, hashlib.sha256(body).hexdigest())) + b"\n" + body


def decode_record(data: bytes, place: str) -> BackupRecord:
    """The record in these bytes; Corrupt if they are not what was written, or name a path outside of a home."""
    first, _, body = data.partition(b"\n")
    try:
        head = msgspec.json.decode(first, type=RecordHead)
        if head.form > FORM:
            raise Corrupt(
                f"{place} was written by a newer llmos (form {head.form}; this one reads up to {FORM}). Use that one",
                path=place,
            )
        if hashlib.sha256(body).hexdigest() != head.sha256:
            raise Corrupt(f"{place} is not what was written: its checksum differs. Use another backup", path=place)
        record = msgspec.json.decode(body, type=BackupRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{place} is no backup of llmos: {error}", path=place) from error
    for file in record.files:
        _check_path(file.path, place)
    return record


def _check_path(path: str, place: str) -> None:
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\0" in path:
        raise Corrupt(f"{place} names {path!r}, which is no path inside a home. Do not restore it", path=place)
