"""The format of a home: an earlier llmos refuses one that a later llmos has changed, before it touches anything.

`FORMAT` rises when an earlier llmos could misread what this one writes: manifests, promotions, the journal's events. A
home of an earlier format is read, and has this one from the next start on.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from llmos.abi.error import Conflict, Corrupt, DiskFull
from llmos.kernel.store import disk

FORMAT = 1
PAGE = "format.json"
log = logging.getLogger(__name__)


class HomeFormat(msgspec.Struct, frozen=True):
    """What last ran on the home: its format, and its version for people."""

    format: int
    version: str


def read_format(home: Path) -> HomeFormat | None:
    """The format of this home; None for one of before there was this page. Corrupt if it cannot be read."""
    path = home / PAGE
    try:
        return msgspec.json.decode(path.read_bytes(), type=HomeFormat)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(
            f"{path} cannot be read: {error}. It only says which llmos ran here last. If that was this one, delete it",
            path=str(path),
        ) from error


def check_format(home: Path, version: str) -> None:
    """Raise Conflict for a home that a later llmos has changed; `version` is this one's, for the sentence."""
    found = read_format(home)
    if found is not None and found.format > FORMAT:
        raise Conflict(
            f"The home {home} was last run by llmos {found.version} (format {found.format}); this is llmos {version}, "
            f"which reads up to format {FORMAT}. Install {found.version} or a later one, or restore a backup of before",
            home=str(home),
            reason="newer_home",
            format=found.format,
        )


def mark_format(home: Path, version: str) -> None:
    """Note that this llmos runs on the home. On a full disk that waits for the next start."""
    now = HomeFormat(FORMAT, version)
    if read_format(home) == now:
        return
    try:
        disk.write(home / PAGE, msgspec.json.encode(now) + b"\n")
    except (OSError, DiskFull) as error:
        log.warning("%s is not written: %s", home / PAGE, error)
