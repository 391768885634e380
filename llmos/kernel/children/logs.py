"""Log files of the daemon, the zygote and each process: rotated by size, removed when old.

`7.log` is the current file; when it is full it becomes `7.log.1`, the next one `7.log.2`, and so on. A file never
changes its number. A process's first file and its newest ones are kept; those between are removed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.stdio import LogOutput

ENDED_BYTES = 1 << 30  # the limit for the logs of ended processes together
LOGS = "logs"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest size of a log's file, and the most files of a log."""

    file_bytes: int
    files: int


def log_path(home: Path, pid: int) -> Path:
    """The current log file of a process."""
    return home / LOGS / f"{pid}.log"


def daemon_log(home: Path) -> Path:
    return home / LOGS / "daemon.log"


def zygote_log(home: Path) -> Path:
    return home / LOGS / "zygote.log"


def rotated_path(path: Path, number: int) -> Path:
    """The name of a log's rotated file with this number."""
    return path.with_name(f"{path.name}.{number}")


def rotated_numbers(path: Path) -> list[int]:
    """The numbers of a log's rotated files, oldest first."""
    prefix = f"{path.name}."
    with suppress(FileNotFoundError):
        ends = (name.removeprefix(prefix) for name in os.listdir(path.parent) if name.startswith(prefix))
        return sorted(int(end) for end in ends if end.isdecimal())
    return []


def rotate(path: Path, limits: Limits, *, keeps_first: bool = True) -> bool:
    """Rotate a full log file and remove surplus ones; False if it is not full.

    It is a rename only: a writer keeps writing to the renamed file and then opens the new one (abi/stdio.py).
    """
    try:
        if path.stat().st_size < limits.file_bytes:
            return False
        numbers = rotated_numbers(path)
        numbers.append(numbers[-1] + 1 if numbers else 1)
        path.rename(rotated_path(path, numbers[-1]))
    except FileNotFoundError:
        return False
    first = 1 if keeps_first else 0
    for number in numbers[first : first + 1 - limits.files]:
        rotated_path(path, number).unlink(missing_ok=True)
    return True


class Logs:
    """Keeps a home's logs within their limits. It blocks: call it in a thread, one call at a time."""

    def __init__(self, home: Path, limits: Limits) -> None:
        self._home = home
        self._limits = limits
        self._output = LogOutput.of(daemon_log(home))  # None in the foreground, where output goes to the terminal

    def tick(self, pids: Iterable[int]) -> None:
        """Rotate full logs of the daemon, the zygote and these processes."""
        try:
            rotate(daemon_log(self._home), self._limits, keeps_first=False)
            self._output.reopen()
            rotate(zygote_log(self._home), self._limits, keeps_first=False)
            for pid in pids:
                rotate(log_path(self._home, pid), self._limits)
        except OSError as error:
            log.error("a log is not rotated: %s", error)

    def sweep(self, known: Collection[int], ended: Collection[int]) -> int:
        """Remove the files that `surplus` lists; returns the freed bytes."""
        freed = 0
        try:
            for path, size_bytes in surplus(self._home, known, ended):
                path.unlink(missing_ok=True)
                freed += size_bytes
        except OSError as error:
            log.error("old logs stay: %s", error)
        return freed


def surplus(
    home: Path, known: Collection[int], ended: Collection[int], ended_bytes: int = ENDED_BYTES
) -> list[tuple[Path, int]]:
    """The logs of forgotten pids, and the oldest of ended ones beyond `ended_bytes`, with sizes."""
    files: dict[int, list[tuple[Path, os.stat_result]]] = {}
    for path in (home / LOGS).iterdir():
        name, _, rest = path.name.partition(".")
        if name.isdecimal() and rest.partition(".")[0] == "log":
            with suppress(FileNotFoundError):
                files.setdefault(int(name), []).append((path, path.stat()))
    newest = max(known, default=0)  # a later pid belongs to a process that was submitted meanwhile
    gone = [pid for pid in files if pid not in known and pid < newest]
    left = ended_bytes
    for pid in sorted(files.keys() & set(ended), key=lambda pid: max(s.st_mtime for _, s in files[pid]), reverse=True):
        left -= sum(stat.st_size for _, stat in files[pid])
        if left < 0:
            gone.append(pid)
    return [(path, stat.st_size) for pid in gone for path, stat in files[pid]]
