"""Room on the disk: a child that runs out of it says so with the numbers, wherever it was writing."""

from __future__ import annotations

import errno
import json
import math
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos.abi.error import DiskFull

WRITE_BYTES = 1 << 20  # what is said to be needed when a disk fills up in the middle of something
MOST_HEADER_BYTES = 100_000_000
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IN_WORDS = "No space left on device"  # what libraries make of ENOSPC that raise errors of their own


@contextmanager
def room_said(folder: Path) -> Iterator[None]:
    """A disk that fills up within is said as DiskFull, with the numbers."""
    try:
        yield
    except Exception as error:
        if (isinstance(error, OSError) and error.errno in FULL) or IN_WORDS in str(error):
            raise disk_full(folder, WRITE_BYTES, shutil.disk_usage(folder).free) from error
        raise


def check_room(folder: Path, need_bytes: int, what: str) -> None:
    """DiskFull, with the numbers and what they are for, before anything is written."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free_bytes = shutil.disk_usage(there).free
    if need_bytes > free_bytes:
        raise DiskFull(
            f"The disk under {folder} is full: {need_bytes:,} bytes are needed ({what}) and {free_bytes:,} are free. "
            "Free some (llmos gc, llmos rm) and pull again; nothing of it was kept",
            path=str(folder),
            need_bytes=need_bytes,
            free_bytes=free_bytes,
        )


def form_bytes(weights: Iterable[Path], dtype: str) -> int:
    """The bytes that the form of these safetensors in this dtype takes beside them: none where it is the same file."""
    sizes = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
    to = {"float32": "F32", "bfloat16": "BF16"}.get(dtype, "F32")
    tensors = [tensor for path in weights if path.suffix == ".safetensors" for tensor in _tensors(path)]
    floats = [(kind, count) for kind, count in tensors if kind in sizes]
    if all(kind == to for kind, _ in floats):
        return 0
    return sum(count * sizes[to] for _, count in floats)


def _tensors(path: Path) -> list[tuple[str, int]]:
    """The dtype and number of elements of each tensor, by the header; none of a file that has none that can be read."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(size, MOST_HEADER_BYTES)))
        held = [one for name, one in header.items() if name != "__metadata__"]
        return [(str(one["dtype"]), math.prod(one["shape"])) for one in held]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return []  # whoever reads it next says what is wrong with it


def disk_full(folder: Path, need_bytes: int, free_bytes: int) -> DiskFull:
    """The error that says what is needed and what is there."""
    return DiskFull(
        f"The disk under {folder} is full: {need_bytes:,} bytes are needed and {free_bytes:,} are free. "
        "Free some (llmos gc, llmos rm) and go on; what is there so far is kept",
        path=str(folder),
        need_bytes=need_bytes,
        free_bytes=free_bytes,
    )
