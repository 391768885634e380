"""Cleanup: removes scratch folders, downloads and logs of processes that will not come back."""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from llmos.kernel.children.logs import surplus
from llmos.kernel.store.disk import files_under
from llmos.kernel.store.space import freed_bytes

OLD_S = 7 * 24 * 3600.0  # how long a download, or an endpoint's answers, are kept for their process to be repeated
ASKED = "asked"  # the folder of the answers of endpoints
EXPORT = "export"  # the name of an exported file in its process's folder
EXPORT_LIFETIME_S = 24 * 3600.0
TIGHT_BYTES = 1 << 30
log = logging.getLogger(__name__)


def sweep_scratch(home: Path, kept: Collection[int]) -> None:
    """Remove the scratch folders of pids that will not continue, because pids may be given out again."""
    for folder in (home / "scratch").iterdir():
        if folder.name.isdecimal() and int(folder.name) not in kept:
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:
                continue  # another cleanup may run at the same time
            except OSError as error:
                log.warning("the scratch folder %s stays: %s", folder, error)


def sweep_ended(home: Path, returning: Collection[int], last_pid: int) -> int:
    """Remove the scratch folders of processes that will not continue, out of those known when `returning` was asked.

    Returns the freed bytes. It writes nothing.
    """
    folders = [one for one in (home / "scratch").iterdir() if one.name.isdecimal() and int(one.name) <= last_pid]
    gone = [folder for folder in folders if int(folder.name) not in returning]
    freed = freed_bytes(path for folder in gone for path, _ in files_under(folder))
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def sweep_exports(home: Path, now: float) -> int:
    """Remove files that were exported longer ago than clients need to fetch them; returns the freed bytes."""
    freed = 0
    for path in (home / "evaluations").glob(f"*/{EXPORT}"):
        if now - _changed_at(path) > EXPORT_LIFETIME_S:
            size_bytes = _size_bytes(path)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("the exported file %s stays: %s", path, error)
            else:
                freed += size_bytes
    return freed


def collect(
    home: Path, known: Collection[int], ended: Collection[int], now: float, answers: Collection[str] | None = None
) -> int:
    """Remove old downloads without a process, old answers of endpoints that nothing refers to, logs of forgotten pids,
    and the oldest logs beyond the limit.

    `answers` are the names of those that are referred to; None: all are. Returns the freed bytes.
    """
    return sum(_remove_download(path) for path, _ in collectable(home, known, ended, now, answers))


def _remove_download(path: Path) -> int:
    """Remove a download while holding its lock, so that a puller that opens it now notices."""
    size_bytes = _size_bytes(path)
    if path.suffix != ".part":
        path.unlink(missing_ok=True)
        return size_bytes
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return size_bytes
    return 0


def collectable(
    home: Path, known: Collection[int], ended: Collection[int], now: float, answers: Collection[str] | None = None
) -> list[tuple[Path, int]]:
    """What `collect` would remove, with sizes."""
    age_s = 0.0 if is_tight(home) else OLD_S
    parts = [path for path in (home / "downloads").glob("*.part") if now - _changed_at(path) > age_s and _is_free(path)]
    old = [] if answers is None else [path for path in (home / ASKED).glob("*.jsonl") if path.stem not in answers]
    # A week also on a full disk: somebody has paid for them, and a run that failed is repeated.
    parts += [path for path in old if now - _changed_at(path) > OLD_S]
    return [*((path, _size_bytes(path)) for path in parts), *surplus(home, known, ended)]


def is_tight(home: Path) -> bool:
    """Whether the disk is so full that partial downloads should be removed."""
    disk = shutil.disk_usage(home)
    return disk.free < min(TIGHT_BYTES, disk.total // 20)


def _is_free(path: Path) -> bool:
    """Whether no puller has it locked."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _size_bytes(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
