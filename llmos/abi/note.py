"""The note of a serve process: the calls it is tokenizing, in shared memory that survives its crash.

A page of shared memory, one slot of eight bytes for each thread that takes calls in: the call's number and one, or 0.
Writing costs no system call, and whatever ends the process, the last writing stands.
"""

from __future__ import annotations

import mmap
import os
import struct

SLOTS = 3
SLOT = struct.Struct("<Q")


class Note:
    """The page as the process writes it; `fd` is where the daemon finds it among this process's open files."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("llmos-note")
        os.ftruncate(self.fd, mmap.PAGESIZE)
        self._page = mmap.mmap(self.fd, mmap.PAGESIZE)

    def write(self, slot: int, call_id: int | None) -> None:
        """From now on this is what is taken in there; None: nothing."""
        SLOT.pack_into(self._page, slot * SLOT.size, 0 if call_id is None else call_id + 1)

    def close(self) -> None:
        self._page.close()
        os.close(self.fd)


def open_note(os_pid: int, fd: int) -> mmap.mmap:
    """The page of a process that lives; it can be read after its end. Raises OSError if it cannot be had."""
    file = os.open(f"/proc/{os_pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mmap.mmap(file, mmap.PAGESIZE, prot=mmap.PROT_READ)
    finally:
        os.close(file)


def read(page: mmap.mmap) -> tuple[int, ...]:
    """The calls on it."""
    found = (SLOT.unpack_from(page, slot * SLOT.size)[0] for slot in range(SLOTS))
    return tuple(number - 1 for number in found if number)
