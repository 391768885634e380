"""Standard output and error of a process as a log file, reopened by name after rotation."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

STDOUT, STDERR = 1, 2
ROTATED = re.compile(r"(.+\.log)(\.\d+)?( \(deleted\))?")  # the log's own name, however its file is called now


class LogOutput:
    """What this process prints goes to the file that has this name. Whoever rotates a log gives its file another name;
    `reopen` then moves on to the next one, and each write goes whole to one of them."""

    def __init__(self, path: Path | None, fds: Sequence[int] = (STDOUT, STDERR)) -> None:
        """`fds` are this process's file descriptors for its log; with no path, `reopen` does nothing."""
        self._path = path
        self._fds = tuple(fds)

    @classmethod
    def from_fd(cls, fd: int = STDOUT) -> LogOutput:
        """The log that a child of the daemon was started with; none if it prints elsewhere."""
        try:
            named = ROTATED.fullmatch(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            named = None
        return cls(Path(named[1]) if named else None)

    @classmethod
    def of(cls, path: Path) -> LogOutput:
        """That file, as far as this process prints to it."""
        return cls(path, [fd for fd in (STDOUT, STDERR) if _is(fd, path)])

    def reopen(self) -> bool:
        """Print to the file that has the log's name now, which is made if there is none; True if that is another one.

        Where it cannot be opened (a full disk, no folder), what is printed goes where it went.
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
