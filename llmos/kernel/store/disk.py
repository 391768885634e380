"""Durable writes: a file is on the disk whole or not at all; a full disk is reported with numbers."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos.abi.error import DiskFull

TEMPORARY = ".tmp-"  # what starts with this is half-written: nothing reads it, the next start sweeps it away
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MARGIN_BYTES = 64 * 1024  # what links, folders and a manifest take


@contextmanager
def room_for(folder: Path, need_bytes: int = MARGIN_BYTES) -> Iterator[None]:
    """Raise DiskFull, with the numbers, if the bytes are not there before or run out within."""
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
    """A new name in the same folder that a start would sweep away."""
    return beside.with_name(f"{TEMPORARY}{beside.name}-{uuid.uuid4().hex[:8]}")


def sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's entries, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write(path: Path, data: bytes) -> None:
    """Put these bytes under this name, replacing what was there in one step."""
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
    """Make the folder and those above it, so that they are still there after a power cut."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def link(source: Path, target: Path) -> None:
    """Give the file a second name; a copy where the two lie on different file systems, or links are unknown."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in FULL:
            raise
        shutil.copyfile(source, target)
        sync(target)


def replace_folder(aside: Path, path: Path) -> None:
    """Move a finished folder to its name; what stood there goes."""
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
    """Which file it is on its disk; None where there is none."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def files_under(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every regular file below a folder, however deep, that is still there when looked at."""
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue  # a child tidied its scratch between the listing and the look
