"""The note of a serve process: the calls it is taking in, in shared memory that survives its crash.

It is a page with one slot of eight bytes for each intake thread: the call's number plus one, or 0. Writing needs no
system call, and the last value survives any end of the process.
"""

from __future__ import annotations

import mmap
import os
import struct

SLOTS = 3
SLOT = struct.Struct("<Q")


class Note:
    """The page as the process writes it; `fd` is the number of its file in this process."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("llmos-note")
        os.ftruncate(self.fd, mmap.PAGESIZE)
        self._page = mmap.mmap(self.fd, mmap.PAGESIZE)

    def write(self, slot: int, call_id: int | None) -> None:
        """Note the call that is being taken in there; None for no call."""
        SLOT.pack_into(self._page, slot * SLOT.size, 0 if call_id is None else call_id + 1)

    def close(self) -> None:
        self._page.close()
        os.close(self.fd)


def open_note(os_pid: int, fd: int) -> mmap.mmap:
    """The page of a living process; it stays readable after its end. Raises OSError if it cannot be opened."""
    file = os.open(f"/proc/{os_pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mmap.mmap(file, mmap.PAGESIZE, prot=mmap.PROT_READ)
    finally:
        os.close(file)


def read(page: mmap.mmap) -> tuple[int, ...]:
    """The calls in it."""
    found = (SLOT.unpack_from(page, slot * SLOT.size)[0] for slot in range(SLOTS))
    return tuple(number - 1 for number in found if number)
