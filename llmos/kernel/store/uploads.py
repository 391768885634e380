"""Uploaded files: received in parts, each on the disk before it is acknowledged, and removed when their time is over.

`uploads/ID/name` is the file and `uploads/ID.json` what is known of it: how many of its bytes are durable, above all.
What lies behind these was never acknowledged, and is written over.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from types import TracebackType

from llmos.abi.error import BadInput, Conflict, LlmosError, NoRoom, TooLong, UploadNotFound
from llmos.abi.upload import DIGEST, Upload, check_file_name, is_upload, upload_id, with_name
from llmos.abi.wire import from_json, to_json
from llmos.kernel.store import disk
from llmos.kernel.store.whole_file import WholeFile

MOST_UPLOADS = 1000
MOST_FILES = 10_000  # with a purpose
SYNC_BYTES = 32 * 1024 * 1024  # of one part, that may be lost with the machine before they are durable
CHUNK_BYTES = 1024 * 1024
OF_A_DRAFT = "draft"  # stands for its purpose, which nobody has said yet
RECORD = ".json"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """The settings: bytes of one file, bytes of all, and how long an untouched file is kept."""

    most_bytes: int = 16 << 30
    most_bytes_together: int = 64 << 30
    lifetime_s: float = 7 * 86_400.0


class Uploads:
    """The folder of uploads. Its methods write to the disk, so call them in a thread; they may run side by side."""

    def __init__(
        self, folder: Path, limits: UploadLimits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self.limits = limits or UploadLimits()
        self._clock = clock
        self._lock = threading.Lock()
        self._busy: set[str] = set()  # being written to
        self._drafts: dict[object, int] = {}  # bytes of those that are neither adopted nor discarded
        disk.make_folder(folder)
        disk.sweep(folder)
        self._known = {one.id: one for one in map(_read, sorted(folder.glob(f"*{RECORD}"))) if one is not None}
        for path in folder.iterdir():
            if path.is_dir() and path.name not in self._known:
                shutil.rmtree(path, ignore_errors=True)

    # Lookups.

    def all(self) -> list[Upload]:
        """Every uploaded file, the oldest first."""
        with self._lock:
            return sorted(self._known.values(), key=lambda one: (one.created_at, one.id))

    def get(self, name: str) -> Upload:
        """The one of this id; UploadNotFound otherwise."""
        found = self._known.get(name)
        if found is None:
            said = (
                f"No uploaded file {name[:80]!r}: its time is over, or it was removed. Send it: llmos data upload FILE"
            )
            raise UploadNotFound(said, upload=name[:80])
        return found

    # The paths of requests (kernel/programs/declaration.py: PathRules).

    def follow(self, source: str) -> str:
        """A source of rows with the name of the uploaded file in it; any other as it is.

        UploadNotFound if there is none, Conflict while it is not complete.
        """
        if not is_upload(source):
            return source
        upload = self.get(upload_id(source))
        if not upload.is_complete:
            raise Conflict(
                f"{upload.ref} is not complete: {upload.offset:,} of {upload.size_bytes:,} bytes of {upload.name} are "
                "here. Send the rest first",
                upload=upload.id,
                offset=upload.offset,
                size=upload.size_bytes,
            )
        return with_name(source, upload)

    def check_inside(self, folder: Path) -> None:
        """Nothing: folders are not uploaded."""

    # Changes.

    def create(self, name: str, size_bytes: int, sha256: str = "") -> Upload:
        """Begin a file of this size; an empty one is complete at once. TooLong, NoRoom, DiskFull beyond the limits."""
        check_file_name(name)
        digest = sha256.lower()
        if digest and not DIGEST.fullmatch(digest):
            raise BadInput(f"sha256 is {sha256[:80]!r}. It has 64 hexadecimal digits", key="sha256", value=sha256[:80])
        self.check_size(size_bytes)
        now = self._clock()
        upload = Upload(secrets.token_hex(8), name, size_bytes, 0, digest, now, now + self.limits.lifetime_s)
        with disk.room_for(self.folder, size_bytes + disk.MARGIN_BYTES), self._lock:
            self._check_together(size_bytes)
            self._known[upload.id] = upload
        try:
            with disk.room_for(self.folder):
                path = self._file(upload)
                disk.make_folder(path.parent)
                path.touch()
                disk.sync(path)
                disk.sync(path.parent)
                return self._finish(upload) if upload.is_complete else self._keep(upload)
        except BaseException:
            self._forget(upload)
            raise

    def draft(self) -> WholeFile:
        """A draft whose bytes count as a file's while it grows: `write` raises TooLong, NoRoom beyond the limits."""
        own = object()

        def reserve(size_bytes: int) -> None:
            self.check_size(size_bytes)
            with self._lock:
                self._check_together(size_bytes - self._drafts.get(own, 0), OF_A_DRAFT)
                self._drafts[own] = size_bytes

        return WholeFile(self.folder, reserve, lambda: self._drafts.pop(own, None))

    def adopt(self, draft: WholeFile, name: str, purpose: str, expires_at: float = 0.0, id: str = "") -> Upload:
        """A file with a purpose of a draft that was written to its end, whose place the draft leaves.

        Bytes that are here already, under any name, are linked and not kept twice. With an `id`: if a file has it, that
        is the answer. TooLong, NoRoom beyond the limits.
        """
        check_file_name(name)
        if id in self._known:
            return self._known[id]
        size_bytes, digest = draft.size_bytes, draft.sha256
        self.check_size(size_bytes)
        now = self._clock()
        id = id or secrets.token_hex(8)
        upload = Upload(id, name, size_bytes, size_bytes, digest, now, expires_at, purpose)
        with disk.room_for(self.folder), self._lock:
            draft.release()  # from here on it counts as a file
            self._check_together(size_bytes, purpose)
            same = next((one for one in self._known.values() if _is_same(one, upload)), None)
            self._known[upload.id] = upload
        try:
            with disk.room_for(self.folder):
                path = self._file(upload)
                disk.make_folder(path.parent)
                if same is None or not _link(self._file(same), path):
                    os.rename(draft.path, path)
                disk.sync(path.parent)
                return self._keep(upload)
        except BaseException:
            self._forget(upload)
            raise

    def append(self, name: str, offset: int) -> UploadPart:
        """Begin a part of this file at this byte; Conflict if it does not go on there, or another is being sent."""
        with self._lock:
            upload = self.get(name)
            if name in self._busy:
                said = f"Another request is sending a part of {upload.ref}. Wait for it, then ask for the offset"
                raise Conflict(said, upload=name, offset=upload.offset, reason="busy")
            if offset != upload.offset:
                said = f"{upload.ref} goes on at byte {upload.offset:,}, not at {offset:,}. Send from there"
                raise Conflict(said, upload=name, offset=upload.offset, reason="offset")
            self._busy.add(name)
        try:
            return UploadPart(self, upload, self._file(upload).open("r+b", buffering=0))
        except BaseException:
            self.leave(name)
            raise

    def touch(self, names: Collection[str]) -> None:
        """They are used now: the time of those that are complete begins anew. UploadNotFound if one is not here."""
        for name in names:
            upload = self.get(name)
            if upload.is_complete:
                self._keep(upload)

    def remove(self, name: str) -> Upload:
        """Remove a file; Conflict while a part of it is being sent."""
        with self._lock:
            upload = self.get(name)
            if name in self._busy:
                raise Conflict(f"A part of {upload.ref} is being sent. Wait for it", upload=name, reason="busy")
            del self._known[name]
        self._forget(upload)
        return upload

    def sweep(self, in_use: Collection[str]) -> list[Upload]:
        """Remove files whose time is over, unless they are used or being sent; returns them."""
        now = self._clock()
        with self._lock:
            over = [one for one in self._known.values() if one.expires_at <= now and not _stays(one)]
            gone = [one for one in over if one.id not in in_use and one.id not in self._busy]
            for upload in gone:
                del self._known[upload.id]
        for upload in gone:
            self._forget(upload)
        return gone

    # For the parts of files.

    def advance(self, upload: Upload, offset: int) -> Upload:
        """Note that the bytes before this offset are durable; at the end, the digest is checked first."""
        further = replace(upload, offset=offset)
        return self._finish(further) if further.is_complete else self._keep(further)

    def leave(self, name: str) -> None:
        """No part of this file is being sent any more."""
        with self._lock:
            self._busy.discard(name)

    def _finish(self, upload: Upload) -> Upload:
        """Note that it is complete, with its digest; BadInput if the client gave another, and the file is removed."""
        found = _digest_of(self._file(upload))
        if upload.sha256 not in ("", found):
            self._forget(upload)
            raise BadInput(
                f"{upload.name} did not arrive as it was sent: its sha256 is {found}, not {upload.sha256}. It is "
                "removed. Send it again",
                key="sha256",
                reason="digest",
                expected=upload.sha256,
                actual=found,
                upload=upload.id,
            )
        return self._keep(replace(upload, sha256=found))

    def _keep(self, upload: Upload) -> Upload:
        expires_at = upload.expires_at if upload.purpose else self._clock() + self.limits.lifetime_s
        fresh = replace(upload, expires_at=expires_at)
        with disk.room_for(self.folder):
            disk.write(self._record(fresh.id), to_json(fresh))
        with self._lock:
            is_here = fresh.id in self._known
            if is_here:
                self._known[fresh.id] = fresh
        if not is_here:  # removed meanwhile
            self._record(fresh.id).unlink(missing_ok=True)
        return fresh

    def _forget(self, upload: Upload) -> None:
        """Remove the record first: a file without one is removed at the next start."""
        with self._lock:
            self._known.pop(upload.id, None)
        self._record(upload.id).unlink(missing_ok=True)
        shutil.rmtree(self.folder / upload.id, ignore_errors=True)

    def check_size(self, size_bytes: int) -> None:
        """TooLong for a file that is larger than the setting allows."""
        if size_bytes > self.limits.most_bytes:
            raise TooLong(
                f"A file may have {self.limits.most_bytes:,} bytes; this one has {size_bytes:,}. Pack it (gzip, zstd), "
                "or raise max_upload_bytes",
                key="max_upload_bytes",
                size=size_bytes,
                limit=self.limits.most_bytes,
                unit="bytes",
            )

    def _check_together(self, size_bytes: int, purpose: str = "") -> None:
        """NoRoom if all uploaded files together would be too many of their kind, or too large."""
        together, limit = sum(one.size_bytes for one in self._known.values()), self.limits.most_bytes_together
        together += sum(list(self._drafts.values()))
        most = MOST_FILES if purpose else MOST_UPLOADS
        count = sum(bool(one.purpose) is bool(purpose) for one in self._known.values())
        if together + size_bytes > limit or count >= most:
            raise NoRoom(
                f"{len(self._known):,} uploaded files have {together:,} bytes; with {size_bytes:,} more there would be "
                f"over {limit:,} bytes or {most:,} files. Remove some (llmos data uploads), or raise "
                "max_uploads_bytes",
                key="max_uploads_bytes",
                need_bytes=size_bytes,
                free_bytes=max(0, limit - together),
            )

    def file(self, name: str) -> Path:
        """Where the bytes of a file are."""
        return self._file(self.get(name))

    def _file(self, upload: Upload) -> Path:
        return self.folder / upload.id / upload.name

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}{RECORD}"


class UploadPart:
    """A part of a file as it comes. What was written is durable when the block ends, however it ends."""

    def __init__(self, uploads: Uploads, upload: Upload, file: FileIO) -> None:
        self.upload = upload
        self._uploads, self._file = uploads, file
        self._at = upload.offset
        file.truncate(upload.offset)  # what was written behind it was never acknowledged
        file.seek(upload.offset)

    def write(self, data: bytes) -> None:
        """Write these bytes; TooLong beyond the size of the file, DiskFull if they do not fit."""
        if self._at + len(data) > self.upload.size_bytes:
            size_bytes = self.upload.size_bytes
            said = f"{self.upload.name} was announced with {size_bytes:,} bytes, and more than that came"
            raise TooLong(said, size=self._at + len(data), limit=size_bytes, unit="bytes", reason="announced")
        with disk.room_for(self._uploads.folder, len(data)):
            self._write(memoryview(data))
        self._at += len(data)
        if self._at - self.upload.offset >= SYNC_BYTES and self._at < self.upload.size_bytes:
            self._sync()

    def __enter__(self) -> UploadPart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._at > self.upload.offset:
                self._sync()
        except (OSError, LlmosError):
            if error is None:
                raise
            log.warning("a part of %s is lost", self.upload.ref, exc_info=True)
        finally:
            self._file.close()
            self._uploads.leave(self.upload.id)

    def _write(self, rest: memoryview) -> None:
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(self._at)
            raise

    def _sync(self) -> None:
        with disk.room_for(self._uploads.folder):
            os.fsync(self._file.fileno())
        self.upload = self._uploads.advance(self.upload, self._at)


def _stays(upload: Upload) -> bool:
    """Whether its time never ends."""
    return bool(upload.purpose) and not upload.expires_at


def _is_same(one: Upload, other: Upload) -> bool:
    """Whether both are whole and of the same bytes."""
    return one.is_complete and one.sha256 == other.sha256 and one.size_bytes == other.size_bytes


def _link(existing: Path, path: Path) -> bool:
    """Give the file another name; False where that cannot be, such as after its removal."""
    try:
        os.link(existing, path)
    except OSError:
        return False
    return True


def _digest_of(path: Path) -> str:
    seen = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            seen.update(chunk)
    return seen.hexdigest()


def _read(record: Path) -> Upload | None:
    """What a record says; None for one that is damaged or whose file is gone, which is removed."""
    try:
        upload = from_json(record.read_bytes(), Upload)
        check_file_name(upload.name)
        path = record.with_suffix("") / upload.name
        is_whole = upload.id == record.stem and path.stat().st_size >= upload.offset
    except (OSError, LlmosError) as error:
        log.warning("the uploaded file %s is damaged, and removed: %s", record.stem, error)
        is_whole = False
    if not is_whole:
        record.unlink(missing_ok=True)
        return None
    return upload
