"""Finds a home's operating system processes: the daemon by its lock, its children by a mark in their environment.

Everything is read from /proc: nothing that was written down has to be there, or to be true.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from llmos.abi.error import LlmosError
from llmos.config import HUB_TOKEN, SETTINGS, Config, read_config

LOCK = "daemon.lock"
READ = ("LLMOS_", "OTEL_")  # variables that a daemon reads begin so
MARK = "LLMOS_CHILD_OF"  # in the environment of all that a daemon starts: its os_pid and its home
ENDED = ("", "Z", "X")  # states of a process that is over
END_WITHIN_S = 5.0  # so long may the operating system take to bury what was killed
DELETED = " (deleted)"  # follows the path of an open file that is gone

Inode = tuple[int, int]


class OsProcess:
    """One operating system process, held by a pidfd: a later one under the same number is never meant."""

    def __init__(self, os_pid: int) -> None:
        """ProcessLookupError if there is none."""
        self.os_pid = os_pid
        self._fd = os.pidfd_open(os_pid)

    def __enter__(self) -> OsProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def signal(self, number: int) -> None:
        """Send a signal, if it has not ended; PermissionError if it is somebody else's."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def has_ended(self, within_s: float = 0.0) -> bool:
        """It has ended, or does within this time."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(within_s * 1000))


def daemon_of(home: Path) -> OsProcess | None:
    """The daemon of this home, if one runs: whichever has the home's lock open, even if the home was moved since.

    Where nobody has, the one that was started on this home and whose lock was deleted or moved away. A fork of a daemon
    that is about to run another program looks like it, and has its lock open, but has not taken it.
    """
    owners = _lock_owners()
    daemons = [os_pid for os_pid in _all() if is_daemon(os_pid) and _has_taken_its_locks(os_pid, owners)]
    lock = inode_of(home / LOCK)
    os_pids = [os_pid for os_pid in daemons if lock is not None and any(held == lock for held, _ in _locks(os_pid))]
    os_pids = os_pids or [os_pid for os_pid in daemons if _was_started_on(home, os_pid, is_moved=lock is None)]
    for os_pid in os_pids:
        if _parent(os_pid) in os_pids:  # a fork of it, where the system does not say who has taken a lock
            continue
        with suppress(ProcessLookupError):
            process = OsProcess(os_pid)
            if is_daemon(os_pid) and not process.has_ended():  # so what was read is of the process that is held
                return process
            process.close()
    return None


def is_daemon(os_pid: int) -> bool:
    """The process is a daemon, of whichever home."""
    words = _words(os_pid)
    return ["-m", "llmos.daemon"] in (words[at : at + 2] for at in range(len(words)))


def mark(home: Path) -> str:
    """What this process, the daemon of this home, puts into the environment of what it starts."""
    return f"{os.getpid()}:{home.resolve()}"


def children_of(home: Path | None = None, daemon: int | None = None) -> list[int]:
    """What the daemons of this home have started, and what those have started in turn; or what this daemon has."""
    os_pids = []
    for os_pid in _all():
        holder, its_home = _read_mark(os_pid)
        is_meant = holder > 0 and daemon in (None, holder) and (home is None or its_home == str(home.resolve()))
        if is_meant and state_of(os_pid) not in ENDED:
            os_pids.append(os_pid)
    return os_pids


def orphans_of(home: Path) -> list[int]:
    """Those whose daemon has ended: one that lives is among the ancestors of all that it has started."""
    return [os_pid for os_pid in children_of(home) if _read_mark(os_pid)[0] not in _ancestors(os_pid)]


def end_orphans(home: Path) -> int:
    """Kill what ended daemons of this home have left, stopped processes too, and wait for its end; how many."""
    return _end(orphans_of(home))


def end_children(daemon: int, home: Path | None = None) -> int:
    """Kill what this daemon has started and is still there; how many. A process may be the daemon of several homes."""
    ended = 0
    while more := _end(children_of(home, daemon)):  # one that is killed may have forked another just before
        ended += more
    return ended


def state_of(os_pid: int) -> str:
    """One letter: R, S and D run or wait, T was stopped, t is traced, Z has ended; nothing where there is none."""
    return _stat(os_pid)[0]


def is_stopped(os_pid: int) -> bool:
    """A signal or a debugger has stopped it: it does nothing until it is told to go on."""
    return state_of(os_pid) in ("T", "t")


def config_of(os_pid: int) -> Config | None:
    """The settings that a daemon was started with; None where they cannot be read."""
    words, environ = _words(os_pid), _environ(os_pid)
    pairs = (word[2:].partition("=") for word in words if word.startswith("--") and "=" in word)
    flagged = {key.replace("-", "_"): value for key, _, value in pairs}
    flags = {setting.key: flagged[setting.key] for setting in SETTINGS if setting.key in flagged}
    flags.setdefault("home", environ.get("LLMOS_HOME") or f"{environ.get('HOME', '~')}/.llmos")
    try:
        return read_config(flags, environ)
    except LlmosError:  # it is of another version, or its config.toml was changed since
        return None


@dataclass(frozen=True, slots=True)
class Launch:
    """How a daemon was started: the words behind its module's name, and the variables that settings are read from."""

    words: tuple[str, ...]
    environ: dict[str, str]
    cgroup: str
    is_service: bool


def launch_of(os_pid: int) -> Launch:
    """How this daemon was started. Words of one start alone are left out; systemd tells its services their pid."""
    words, environ = _words(os_pid), _environ(os_pid)
    at = next((at for at in range(len(words)) if words[at : at + 2] == ["-m", "llmos.daemon"]), len(words))
    kept = tuple(word for word in words[at + 2 :] if word.startswith("--") and "=" in word)
    named = {name: value for name, value in environ.items() if name.startswith(READ) or name == HUB_TOKEN}
    named.pop(MARK, None)
    is_service = str(os_pid) in (environ.get("SYSTEMD_EXEC_PID"), environ.get("WATCHDOG_PID"))
    cgroup = os.fsdecode(_read(os_pid, "cgroup")).strip()
    return Launch(kept, named, cgroup, is_service)


def _end(os_pids: list[int]) -> int:
    held: list[OsProcess] = []
    for os_pid in os_pids:
        marked = _read_mark(os_pid)
        with suppress(ProcessLookupError):
            process = OsProcess(os_pid)
            held.append(process)
            if marked[1] and _read_mark(os_pid) == marked:  # so what is held is what was found
                process.signal(signal.SIGKILL)
    until = time.monotonic() + END_WITHIN_S
    ended = sum(process.has_ended(max(0.0, until - time.monotonic())) for process in held)
    for process in held:
        process.close()
    return ended


def _was_started_on(home: Path, os_pid: int, *, is_moved: bool) -> bool:
    """It was told this home and holds the lock of no other: its own was deleted, or moved away and not replaced."""
    config = config_of(os_pid)
    if config is None or config.home.resolve() != home.resolve():
        return False
    return is_moved or all(path.endswith(DELETED) for _, path in _locks(os_pid))


def _locks(os_pid: int) -> Iterator[tuple[Inode, str]]:
    """The locks of homes that a process has open, and where they lie now."""
    with suppress(OSError):  # it has ended, or is another user's
        for fd in os.listdir(f"/proc/{os_pid}/fd"):
            link = f"/proc/{os_pid}/fd/{fd}"
            with suppress(OSError):
                path = os.readlink(link)
                inode = inode_of(Path(link))
                if Path(path.removesuffix(DELETED)).name == LOCK and inode is not None:
                    yield inode, path


def _has_taken_its_locks(os_pid: int, owners: dict[int, set[int]]) -> bool:
    """It has taken the locks that it has open, or nothing says who has: a fork has its parent's open, and took none.

    Just before a fork runs another program it closes its files; until then it still has its parent's words.
    """
    inodes = [inode for (_, inode), _ in _locks(os_pid)]
    if not inodes:
        return _words(os_pid) != _words(_parent(os_pid))
    return all(os_pid in owners.get(inode, (os_pid,)) for inode in inodes)


def _lock_owners() -> dict[int, set[int]]:
    """Who took the locks on files of each number, also on deleted ones; a lock keeps its taker's os_pid to its end.

    Files are told by their number alone, because the device that is named here is another than that of `stat` on some
    file systems: a process with the file open is meant.
    """
    owners: dict[int, set[int]] = {}
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:  # some sandboxes have none
        return owners
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK":
            owners.setdefault(int(words[5].rpartition(":")[2]), set()).add(int(words[4]))
    return owners


def inode_of(path: Path) -> Inode | None:
    """The file itself, whatever it is called: its device and number there; None where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _read_mark(os_pid: int) -> tuple[int, str]:
    """The daemon and the home that a process belongs to; of one that belongs to none, 0 and nothing."""
    daemon, _, home = _environ(os_pid).get(MARK, "").partition(":")
    return (int(daemon), home) if daemon.isdecimal() else (0, "")


def _ancestors(os_pid: int) -> Iterator[int]:
    while (os_pid := _parent(os_pid)) > 0:
        yield os_pid


def _parent(os_pid: int) -> int:
    return int(_stat(os_pid)[1])


def _stat(os_pid: int) -> tuple[str, str]:
    """State and parent."""
    fields = _read(os_pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), fields[1].decode()) if len(fields) > 1 else ("", "0")


def _words(os_pid: int) -> list[str]:
    return [os.fsdecode(word) for word in _read(os_pid, "cmdline").split(b"\0")]


def _environ(os_pid: int) -> dict[str, str]:
    """As it was when its program was started; nothing of another user's."""
    pairs = (os.fsdecode(line).partition("=") for line in _read(os_pid, "environ").split(b"\0"))
    return {name: value for name, _, value in pairs}


def _read(os_pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{os_pid}/{name}").read_bytes()
    except OSError:
        return b""


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
