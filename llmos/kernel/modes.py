"""Modes: a home is its owner's alone, folders 0700 and files 0600 (0400 where nothing may change them)."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

UMASK = 0o077  # of the daemon and, by inheritance, of every child
OTHERS = 0o077  # what group and others may do
ROOMS = ("blobs", "datasets", "downloads", "evaluations", "logs", "models", "names", "resident", "run", "scratch")
PAGES = ("journal.*", "daemon.*", "verified.json", "config.toml")
log = logging.getLogger(__name__)


def make_private() -> None:
    """What this process and its children write from now on is their user's alone."""
    os.umask(UMASK)


def close_home(home: Path) -> None:
    """Take from group and others what an older version let them read; what cannot be changed is said in the log."""
    refused = [path for path in (home, *_below(home)) if not _closed(path)]
    if refused:
        log.warning(
            "%d files of the home may be read by others, such as %s. Make them yours: chown -R %d %s",
            len(refused),
            refused[0],
            os.getuid(),
            home,
        )


def _below(home: Path) -> list[Path]:
    """What llmos itself put there: a home may be a folder in which others keep something too."""
    rooms = [home / name for name in ROOMS]
    inside = [Path(at, name) for room in rooms for at, folders, files in os.walk(room) for name in (*folders, *files)]
    return [*(room for room in rooms if room.exists()), *(page for one in PAGES for page in home.glob(one)), *inside]


def _closed(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & OTHERS:
            return True
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:  # it went between the listing and the look
        return True
    except OSError:
        return False
    return True
