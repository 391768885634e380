"""Checks free disk space before a download or conversion begins, and reports how much is missing."""

from __future__ import annotations

import errno
import json
import math
import shutil
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llmos.abi.error import DiskFull

WRITE_BYTES = 1 << 20  # the stated need if a disk fills up while something is written
MOST_HEADER_BYTES = 100_000_000
WHOLE = "model.safetensors"  # a resident form may be this very file; a sharded file never is one
GGUF = "GGUF"  # quantized weights are floats in the resident form
BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, GGUF: 1}
KINDS = {"float32": "F32", "bfloat16": "BF16"}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IN_WORDS = "No space left on device"  # ENOSPC in the messages of libraries that raise their own errors


@contextmanager
def room_said(folder: Path) -> Iterator[None]:
    """Inside this block, a full disk is raised as DiskFull, with the numbers."""
    try:
        yield
    except Exception as error:
        if (isinstance(error, OSError) and error.errno in FULL) or IN_WORDS in str(error):
            raise disk_full(folder, WRITE_BYTES, shutil.disk_usage(folder).free) from error
        raise


def check_room(folder: Path, need_bytes: int, what: str) -> None:
    """Raise DiskFull, with the numbers and the purpose, before anything is written."""
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


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file by its header: name, dtype and number of elements of each tensor."""

    path: str
    tensors: tuple[tuple[str, str, int], ...]


def read_weights(path: str, file: BinaryIO) -> Weights:
    """Read the header of safetensors or GGUF; no tensors if it is unreadable or of another format."""
    try:
        if path.endswith(".safetensors"):
            return Weights(path, tuple(_tensors(file)))
        if path.endswith(".gguf"):
            from llmos.engines.llamacpp.header import count_numbers  # imported late: only GGUF bases need it

            return Weights(path, (("", GGUF, count_numbers(file)),))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, OverflowError, MemoryError):
        pass  # the next reader reports the fault
    return Weights(path, ())


def form_bytes(weights: Iterable[Weights], dtype: str, names: Callable[[], Collection[str]] | None = None) -> int:
    """An upper bound of the bytes that a resident form of these files in this dtype adds.

    It is 0 if the form is the same file: one safetensors file in this dtype already, with every tensor in `names`.
    Without `names`, all are assumed to be there.
    """
    weights = list(weights)
    to = KINDS.get(dtype, "F32")
    floats = [(name, kind, count) for one in weights for name, kind, count in one.tensors if kind in BYTES]
    is_one = [one.path for one in weights] == [WHOLE]
    if not floats or (is_one and all(kind == to for _, kind, _ in floats) and _has(floats, names)):
        return 0
    return sum(count * BYTES[to] for _, _, count in floats)


def _has(floats: list[tuple[str, str, int]], names: Callable[[], Collection[str]] | None) -> bool:
    return names is None or {name for name, _, _ in floats}.issuperset(names())


def _tensors(file: BinaryIO) -> Iterator[tuple[str, str, int]]:
    (size,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(min(size, MOST_HEADER_BYTES)))
    for name, one in header.items():
        if name != "__metadata__":
            yield name, str(one["dtype"]), math.prod(one["shape"])


def disk_full(folder: Path, need_bytes: int, free_bytes: int) -> DiskFull:
    """The error with the needed and the free bytes."""
    return DiskFull(
        f"The disk under {folder} is full: {need_bytes:,} bytes are needed and {free_bytes:,} are free. "
        "Free some (llmos gc, llmos rm) and go on; what is there so far is kept",
        path=str(folder),
        need_bytes=need_bytes,
        free_bytes=free_bytes,
    )
