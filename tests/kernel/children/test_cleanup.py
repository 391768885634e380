"""Leftovers: what nobody comes back for goes, and what somebody may come back for stays."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmos.kernel.children.cleanup import (
    EXPORT_LIFETIME_S,
    OLD_S,
    collect,
    collectable,
    is_tight,
    sweep_ended,
    sweep_exports,
    sweep_scratch,
)

NOW = 1_800_000_000.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("scratch", "downloads", "logs"):
        (tmp_path / name).mkdir()
    return tmp_path


def write(path: Path, at: float = NOW) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"1234")
    os.utime(path, (at, at))
    return path


def test_scratch_of_processes_that_go_on_stays_and_all_other_goes(home: Path) -> None:
    for pid in (1, 2, 3):
        write(home / "scratch" / str(pid) / "checkpoint")
    other = write(home / "scratch" / "notes" / "of the user")
    sweep_scratch(home, {2})
    assert sorted(path.name for path in (home / "scratch").iterdir()) == ["2", "notes"]
    assert other.exists()


def test_an_old_download_goes_unless_a_puller_has_it_or_it_is_young(home: Path) -> None:
    old, held = (write(home / "downloads" / f"{name}.part", NOW - OLD_S - 1) for name in ("old", "held"))
    young = write(home / "downloads" / "young.part", NOW - 1)
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert collect(home, (), (), NOW) == 4
    assert [path.exists() for path in (old, held, young)] == [False, True, True]


def test_an_exported_file_goes_after_its_day_and_what_is_said_of_it_stays(home: Path) -> None:
    (home / "evaluations").mkdir()
    at = NOW - EXPORT_LIFETIME_S - 1
    old, result = (write(home / "evaluations" / "7" / name, at) for name in ("export", "result.json"))
    young = write(home / "evaluations" / "8" / "export", NOW - 1)
    assert sweep_exports(home, NOW) == 4
    assert [path.exists() for path in (old, result, young)] == [False, True, True]
    assert sweep_exports(home, NOW) == 0


def test_what_would_go_is_told_before(home: Path) -> None:
    old = write(home / "downloads" / "old.part", NOW - OLD_S - 1)
    write(home / "downloads" / "young.part")
    assert collectable(home, (), (), NOW) == [(old, 4)]


def test_answers_of_an_endpoint_go_after_a_week_unless_a_dataset_was_made_of_them(home: Path) -> None:
    old, used = (write(home / "asked" / f"{name}.jsonl", NOW - OLD_S - 1) for name in ("old", "used"))
    young = write(home / "asked" / "young.jsonl", NOW - 1)
    assert collect(home, (), (), NOW) == 0, "a process may refer to any"
    assert collectable(home, (), (), NOW, {"used"}) == [(old, 4)]
    assert collect(home, (), (), NOW, {"used"}) == 4
    assert [path.exists() for path in (old, used, young)] == [False, True, True]


def test_logs_go_with_the_processes_that_the_journal_has_forgotten(home: Path) -> None:
    forgotten, rotated = write(home / "logs" / "1.log"), write(home / "logs" / "1.log.1")
    stay = [
        write(home / "logs" / name) for name in ("2.log", "2.log.1", "3.log", "zygote.log", "daemon.log.1", "1.txt")
    ]
    assert collect(home, {2}, {2}, NOW) == 8
    assert [path.exists() for path in (forgotten, rotated)] == [False, False]
    assert all(path.exists() for path in stay), "3 came after the list of pids was made"


def test_scratch_that_no_process_comes_back_for_goes_and_that_of_a_newer_one_stays(home: Path) -> None:
    for pid in (1, 2, 3):
        write(home / "scratch" / str(pid) / "half")
    assert sweep_ended(home, {2}, last_pid=2) == 4
    assert sorted(path.name for path in (home / "scratch").iterdir()) == ["2", "3"]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without a free byte, on which lies a home with a download of today."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "llmos-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root and a kernel that permits it")
    for name in ("scratch", "downloads", "logs"):
        (folder / name).mkdir()
    (folder / "scratch" / "1").mkdir()
    (folder / "scratch" / "1" / "half").write_bytes(b"1" * 8192)
    (folder / "downloads" / "today.part").write_bytes(b"1" * 65536)
    (folder / "ballast").write_bytes(b"1" * (shutil.disk_usage(folder).free // 4096 * 4096))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_scratch_and_downloads_are_freed_without_writing(full_disk: Path) -> None:
    assert shutil.disk_usage(full_disk).free == 0
    assert is_tight(full_disk)
    assert sweep_ended(full_disk, set(), last_pid=1) == 8192
    assert collect(full_disk, (), (), (full_disk / "downloads" / "today.part").stat().st_mtime + 1.0) == 65536
    assert shutil.disk_usage(full_disk).free >= 65536 + 8192
