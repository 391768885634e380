"""Durable writes: a file is on the disk whole or not at all; a full disk is reported with numbers."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos.abi.error import DiskFull

TEMPORARY = ".tmp-"  # the prefix of half-written files: nothing reads them, and the next start removes them
DIGITS = 8  # of the random part of a temporary name
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MARGIN_BYTES = 64 * 1024  # for links, folders and a manifest


@contextmanager
def room_for(folder: Path, need_bytes: int = MARGIN_BYTES) -> Iterator[None]:
    """Raise DiskFull, with the numbers, if there is too little space now or it runs out inside the block."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < need_bytes:
        raise _full(folder, need_bytes)
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _full(folder, need_bytes) from error
        raise


def _full(folder: Path, need_bytes: int) -> DiskFull:
    free_bytes = shutil.disk_usage(folder).free
    return DiskFull(
        f"The disk under {folder} is full: {need_bytes:,} bytes are needed and {free_bytes:,} are free. "
        "Nothing half-written is left. Free some: llmos gc, or llmos rm what is not needed",
        path=str(folder),
        need_bytes=need_bytes,
        free_bytes=free_bytes,
    )


def temporary(beside: Path) -> Path:
    """A new name in the same folder that the next start would remove."""
    return beside.with_name(f"{TEMPORARY}{beside.name}-{uuid.uuid4().hex[:DIGITS]}")


def temporaries(beside: Path) -> list[Path]:
    """What is there under a name that `temporary` gives for this path, and for no other."""
    return sorted(beside.parent.glob(f"{TEMPORARY}{glob.escape(beside.name)}-{'[0-9a-f]' * DIGITS}"))


def sync(path: Path) -> None:
    """Sync a file's bytes, or a folder's entries, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write(path: Path, data: bytes) -> None:
    """Write these bytes to this path, atomically."""
    aside = temporary(path)
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def make_folder(path: Path) -> None:
    """Make the folder and its parents, and sync them, so that they survive a power cut."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def link(source: Path, target: Path) -> None:
    """Hard-link the file; copy it if the file systems differ or have no links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in FULL:
            raise
        shutil.copyfile(source, target)
        sync(target)


def replace_folder(aside: Path, path: Path) -> None:
    """Rename a finished folder to its name, replacing what was there."""
    for folder, _, _ in os.walk(aside):
        sync(Path(folder))
    if path.exists():
        shutil.rmtree(path)
    aside.rename(path)
    sync(path.parent)


def sweep(folder: Path) -> None:
    """Remove everything half-written directly in this folder."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def inode(path: Path) -> int | None:
    """The file's inode; None if there is no file."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def files_under(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every regular file below a folder that exists when it is reached."""
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue  # a child removed it after it was listed
