"""Leftovers: what nobody comes back for goes, and what somebody may come back for stays."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from llmos.kernel.leftovers import OLD_S, collect, collectable, sweep_scratch

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
        assert collect(home, (), NOW) == 4
    assert [path.exists() for path in (old, held, young)] == [False, True, True]


def test_what_would_go_is_told_before(home: Path) -> None:
    old = write(home / "downloads" / "old.part", NOW - OLD_S - 1)
    write(home / "downloads" / "young.part")
    assert collectable(home, (), NOW) == [(old, 4)]


def test_logs_go_with_the_processes_that_the_journal_has_forgotten(home: Path) -> None:
    forgotten, known, zygote = (write(home / "logs" / f"{name}.log") for name in ("1", "2", "zygote"))
    assert collect(home, {2}, NOW) == 4
    assert [path.exists() for path in (forgotten, known, zygote)] == [False, True, True]
