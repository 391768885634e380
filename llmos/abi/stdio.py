"""Standard output and error of a process as a log file, reopened by name after rotation."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

STDOUT, STDERR = 1, 2
ROTATED = re.compile(r"(.+\.log)(\.\d+)?( \(deleted\))?")  # the log's base name, also after rotation or deletion


class LogOutput:
    """This process's output to a log file that may be rotated.

    Rotation renames the file; `reopen` then switches to the new one. Each write goes completely to one of them.
    """

    def __init__(self, path: Path | None, fds: Sequence[int] = (STDOUT, STDERR)) -> None:
        """`fds` are this process's file descriptors for its log; without a path, `reopen` has no effect."""
        self._path = path
        self._fds = tuple(fds)

    @classmethod
    def from_fd(cls, fd: int = STDOUT) -> LogOutput:
        """The log that a child was started with; none if its output goes elsewhere."""
        try:
            named = ROTATED.fullmatch(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            named = None
        return cls(Path(named[1]) if named else None)

    @classmethod
    def of(cls, path: Path) -> LogOutput:
        """The log at this path, for the descriptors that write to it."""
        return cls(path, [fd for fd in (STDOUT, STDERR) if _is(fd, path)])

    def reopen(self) -> bool:
        """Switch to the file that has the log's name now, and create it if needed; returns whether it is another one.

        If it cannot be opened (a full disk, no folder), output goes on to the old file.
        """
        if self._path is None or not self._fds or _is(self._fds[0], self._path):
            return False
        try:
            fresh = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        for fd in self._fds:
            os.dup2(fresh, fd)
        os.close(fresh)
        return True


def _is(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False
