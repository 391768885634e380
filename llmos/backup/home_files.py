"""Which files of a home a backup holds: all but what is made again, what belongs to this moment, and links to blobs.

A folder that is not named here is copied as it is, so a part of the home that is new needs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.model import DatasetManifest, File, Manifest
from llmos.abi.wire import from_json
from llmos.config import LOCAL_KEY
from llmos.kernel.store import disk
from llmos.kernel.store.promotions import PROMOTED

MADE_AGAIN = ("models", "resident", "vectors")  # links to blobs, and what the blobs and rows are made into
OF_THIS_MOMENT = ("run", "downloads")
BLOBS, SCRATCH, NAMES, DATASETS = "blobs", "scratch", "names", "datasets"
APART = (*MADE_AGAIN, *OF_THIS_MOMENT, BLOBS, SCRATCH, "lost+found")
NOT_KEPT = (
    "daemon.json",
    "daemon.lock",
    LOCAL_KEY,  # a secret of the daemon that runs
    "verified.json",
    "journal.*",
    "restoring.json",
    "*.new",
    f"{disk.TEMPORARY}*",
)
DATABASE_LOGS = ("-wal", "-shm", "-journal")  # SQLite's, which are copied with the database


@dataclass(frozen=True, slots=True)
class PageFiles:
    """A manifest's page, and the blobs that it names."""

    page: Path
    files: tuple[File, ...]


def plain_files(home: Path) -> Iterator[Path]:
    """The files that are copied as they are; promotions first, so that each version they name is found after them."""
    for page in sorted(path for path in home.iterdir() if path.is_file()):
        if not any(page.match(one) for one in NOT_KEPT):
            yield page
    found = [
        path
        for room in sorted(home.iterdir())
        if room.is_dir() and room.name not in APART and not room.name.startswith(disk.TEMPORARY)
        for path in _files(room)
        if not (room.name == DATASETS and _is_linked(path.relative_to(room)))
    ]
    yield from sorted(found, key=lambda path: (path.name != PROMOTED, str(path)))


def scratch_files(home: Path, pid: int) -> list[Path]:
    """The files that a process works on, which may be its checkpoint."""
    folder = home / SCRATCH / str(pid)
    return sorted(_files(folder)) if folder.is_dir() else []


def checkpoint_identity(home: Path, pid: int) -> dict[str, int]:
    """The inodes of a process's finished files: as long as they are the same, these are of one moment."""
    found = {}
    for path in scratch_files(home, pid):
        is_draft = any(part == "draft" or part.endswith(".tmp") for part in path.parts)
        inode = disk.inode(path)
        if not is_draft and inode is not None:
            found[str(path)] = inode
    return found


def page_files(home: Path, page: Path, data: bytes) -> PageFiles | None:
    """The blobs that a page names if it is a manifest; BadInput if it is one that cannot be read."""
    relative = page.relative_to(home).parts
    if len(relative) != 3 or relative[0] not in (NAMES, DATASETS) or page.suffix != ".json" or page.name == PROMOTED:
        return None
    files = from_json(data, Manifest).files if relative[0] == NAMES else from_json(data, DatasetManifest).files
    return PageFiles(page, files)


def _files(folder: Path) -> Iterator[Path]:
    """The regular files below a folder, without half-written ones and SQLite's logs; links inside are not followed."""
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(disk.TEMPORARY)]
        for name in names:
            path = Path(at, name)
            if not name.startswith(disk.TEMPORARY) and not path.is_symlink() and path.is_file() and not _is_log(path):
                yield path


def _is_log(path: Path) -> bool:
    bare = next((path.name.removesuffix(end) for end in DATABASE_LOGS if path.name.endswith(end)), "")
    return bool(bare) and path.with_name(bare).exists()


def _is_linked(relative: Path) -> bool:
    """Whether a path below `datasets` is in a version's folder, which has links to blobs."""
    return len(relative.parts) > 2 and relative.parts[1].isdecimal()
