"""Room on the disk: a child that runs out of it says so with the numbers, wherever it was writing."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos.abi.error import DiskFull

WRITE_BYTES = 1 << 20  # what is said to be needed when a disk fills up in the middle of something
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


def disk_full(folder: Path, need_bytes: int, free_bytes: int) -> DiskFull:
    """The error that says what is needed and what is there."""
    return DiskFull(
        f"The disk under {folder} is full: {need_bytes:,} bytes are needed and {free_bytes:,} are free. "
        "Free some (llmos gc, llmos rm) and go on; what is there so far is kept",
        path=str(folder),
        need_bytes=need_bytes,
        free_bytes=free_bytes,
    )
