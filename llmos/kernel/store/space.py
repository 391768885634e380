"""Disk usage of the home by folder, and what removing files would free."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from llmos.abi.api_types import DiskUse
from llmos.kernel.store import disk


def disk_use(home: Path, garbage: Iterable[Path]) -> DiskUse:
    """The bytes per folder of the home; a file counts once, however many links it has."""
    seen: set[int] = set()
    return DiskUse(
        datasets_bytes=_size(home / "datasets", seen),
        blobs_bytes=_size(home / "blobs", seen),
        resident_bytes=_size(home / "resident", seen),
        scratch_bytes=_size(home / "scratch", seen),
        downloads_bytes=_size(home / "downloads", seen),
        evaluations_bytes=_size(home / "evaluations", seen),
        logs_bytes=_size(home / "logs", seen),
        reclaimable_bytes=freed_bytes(garbage),
        free_bytes=shutil.disk_usage(home).free,
        uploads_bytes=_size(home / "uploads", seen),
        asked_bytes=_size(home / "asked", seen),
        vectors_bytes=_size(home / "vectors", seen),
    )


def freed_bytes(paths: Iterable[Path]) -> int:
    """The bytes that unlinking all of these frees; a file with other links frees nothing."""
    stats = []
    for path in paths:
        with suppress(FileNotFoundError):
            stats.append(path.lstat())
    links = Counter(stat.st_ino for stat in stats)
    sizes = {stat.st_ino: stat.st_size for stat in stats if links[stat.st_ino] >= stat.st_nlink}
    return sum(sizes.values())


def _size(folder: Path, seen: set[int]) -> int:
    fresh = {stat.st_ino: stat.st_size for _, stat in disk.files_under(folder) if stat.st_ino not in seen}
    seen |= fresh.keys()
    return sum(fresh.values())
