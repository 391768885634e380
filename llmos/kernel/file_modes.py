"""File modes: the home is private to its owner, folders 0700, files 0600 (0400 where nothing may change them)."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from llmos.abi.error import BadSetting, Conflict

UMASK = 0o077  # of the daemon and, by inheritance, of every child
OTHERS = 0o077  # the permissions of group and others
WRITABLE = 0o022
BY_ALL = 0o002
ROOMS = (
    "asked", "batches", "blobs", "checks", "datasets", "downloads", "evaluations", "feedback", "fine_tuning", "logs",
    "models", "names", "requests", "resident", "rollouts", "run", "scratch", "slos", "tracks", "uploads", "vectors",
)  # fmt: skip
RESTORING = "restoring.json"  # there while a backup is restored, and after a restore that was broken off
PAGES = (
    "journal.*", "daemon.*", "verified.json", "config.toml", "row.key", "keys.json", "local.key", "usage.db*",
    "alerts.toml", "format.json", RESTORING,
)  # fmt: skip
SIGNS = ("daemon.lock", "journal.db", "journal.snapshot", "verified.json")
NOBODYS = ("lost+found", ".tmp-*")
log = logging.getLogger(__name__)


def make_private() -> None:
    """Make files that this process and its children create private to the user."""
    os.umask(UMASK)


def check_home(home: Path) -> None:
    """Raise BadSetting for a folder with other users' or unrelated files.

    A folder that was a home before is accepted.
    """
    if _was_home(home):
        return
    mode = home.stat().st_mode
    if mode & stat.S_ISVTX or (mode & BY_ALL and _strangers(home)):
        raise _shared_home(home, "others may write there", "shared")
    mixed = [name for name in ROOMS if name != "logs" and (home / name).is_dir() and any((home / name).iterdir())]
    if mixed:
        raise _shared_home(home, f"the folder {mixed[0]} in it is not llmos's", mixed[0])


def check_restored(home: Path) -> None:
    """Raise Conflict for a home of which only a part was restored."""
    if (home / RESTORING).exists():
        raise Conflict(
            f"A restore of the home {home} was broken off, so that it is not whole. Repeat it: llmos restore BACKUP",
            home=str(home),
            reason="restoring",
        )


def close_home(home: Path) -> None:
    """Remove permissions of group and others that an earlier version left; failures are logged.

    A shared or foreign folder keeps its own mode; only llmos' files in it are made private.
    """
    strangers = _strangers(home)
    is_own = home.stat().st_uid == os.getuid() and not home.stat().st_mode & stat.S_ISVTX and not strangers
    if not is_own and home.stat().st_mode & WRITABLE:
        log.warning(
            "Others may write in the home %s, which holds other things too (%s). Move what is llmos's to a folder of "
            "its own, and name that: LLMOS_HOME",
            home,
            next(iter(strangers), "it is a folder for all"),
        )
    refused = [path for path in (*([home.resolve()] if is_own else []), *_below(home)) if not _close_mode(path)]
    if refused:
        log.warning(
            "%d files of the home may be read by others, such as %s. Make them yours: chown -R %d %s",
            len(refused),
            refused[0],
            os.getuid(),
            home,
        )


def _was_home(home: Path) -> bool:
    """Whether a daemon has run here, even if parts were deleted since."""
    return any((home / page).exists() for page in SIGNS) or all((home / room).exists() for room in ("blobs", "names"))


def _strangers(home: Path) -> list[str]:
    """The entries that llmos did not create."""
    ours = (*ROOMS, *PAGES, *NOBODYS)
    return sorted(path.name for path in home.iterdir() if not any(path.match(one) for one in ours))


def _shared_home(home: Path, why: str, reason: str) -> BadSetting:
    return BadSetting(
        f"The home {home} holds other things, and {why}. Choose a folder of llmos's own: LLMOS_HOME={home / 'llmos'}",
        key="home",
        value=str(home),
        expected="a folder of its own",
        reason=reason,
    )


def _below(home: Path) -> list[Path]:
    """The files that llmos created: a home may also hold others."""
    rooms = [home / name for name in ROOMS if not (home / name).is_symlink()]  # a link leads to a folder elsewhere
    inside = [Path(at, name) for room in rooms for at, folders, files in os.walk(room) for name in (*folders, *files)]
    return [*(room for room in rooms if room.exists()), *(page for one in PAGES for page in home.glob(one)), *inside]


def _close_mode(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & OTHERS:
            return True
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:  # it was removed after it was listed
        return True
    except OSError:
        return False
    return True
