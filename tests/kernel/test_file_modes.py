"""Whose a home is: its owner's alone, an old one too."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llmos.abi.error import BadSetting
from llmos.kernel.file_modes import check_home, close_home
from llmos.testing.errors import fails_with


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"text")
    path.chmod(mode)
    return path


def test_an_open_home_of_an_older_version_is_closed(tmp_path):
    tmp_path.chmod(0o755)
    rows, journal = tmp_path / "datasets/rows/1/train.jsonl", tmp_path / "journal.db"
    blob, config = tmp_path / "datasets" / "kept", tmp_path / "config.toml"
    for path, is_now in ((rows, 0o644), (journal, 0o664), (blob, 0o444), (config, 0o644)):
        write(path, is_now)
    check_home(tmp_path)
    close_home(tmp_path)
    assert [mode(path) for path in (tmp_path, tmp_path / "datasets", rows, journal, blob, config)] == [
        0o700, 0o700, 0o600, 0o600, 0o400, 0o600,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "asked/a.jsonl",
        "batches/batch_1/output.jsonl",
        "checks/tickets@1/report.json",
        "feedback/feedback.db",
        "fine_tuning/ftjob-1.json",
        "requests/2026-01-31.db-wal",
        "slos/a.json",
        "tracks/a/run.json",
        "vectors/tickets/1.npy",
        "usage.db",
        "alerts.toml",
    ],
)
def test_all_that_llmos_keeps_is_its_own_and_closed_in_a_home_that_was_copied(tmp_path, name):
    tmp_path.chmod(0o755)
    write(tmp_path / "journal.db", 0o644)
    kept = write(tmp_path / name, 0o644)
    close_home(tmp_path)
    assert [mode(path) for path in (tmp_path, kept)] == [0o700, 0o600]


def test_a_home_that_a_link_leads_to_is_closed_where_it_lies(tmp_path):
    (tmp_path / "big").mkdir(mode=0o755)
    (tmp_path / "home").symlink_to(tmp_path / "big")
    close_home(tmp_path / "home")
    assert mode(tmp_path / "big") == 0o700


def test_a_home_shared_with_others_keeps_its_mode_and_our_files_are_closed(tmp_path):
    tmp_path.chmod(0o755)
    rows, journal = write(tmp_path / "datasets/rows", 0o644), write(tmp_path / "journal.db", 0o644)
    photo = write(tmp_path / "photos" / "cat.png", 0o644)
    elsewhere = write(tmp_path / "disk" / "a.part", 0o644)
    (tmp_path / "downloads").symlink_to(tmp_path / "disk")
    (tmp_path / "datasets" / "link").symlink_to(photo)
    check_home(tmp_path)
    close_home(tmp_path)
    assert [mode(path) for path in (tmp_path, photo, elsewhere)] == [0o755, 0o644, 0o644]
    assert [mode(path) for path in (tmp_path / "datasets", rows, journal)] == [0o700, 0o600, 0o600]


@pytest.mark.parametrize("is_now", [0o1777, 0o777, 0o707])
def test_a_folder_that_others_write_to_is_no_home_which_the_sentence_says(tmp_path, is_now):
    write(tmp_path / "somebody's", 0o644)
    tmp_path.chmod(is_now)
    with pytest.raises(BadSetting, match=r"others may write there.*LLMOS_HOME=.*llmos$") as found:
        check_home(tmp_path)
    assert found.value.detail["key"] == "home"
    assert mode(tmp_path) == is_now


def test_a_folder_of_a_group_becomes_a_home_keeps_its_mode_and_the_log_warns(tmp_path, caplog):
    write(tmp_path / "catalog.toml", 0o664)
    tmp_path.chmod(0o775)
    check_home(tmp_path)
    close_home(tmp_path)
    assert mode(tmp_path) == 0o775
    assert "Others may write in the home" in caplog.text


def test_an_empty_folder_for_all_such_as_tmp_is_no_home(tmp_path):
    tmp_path.chmod(0o1777)
    with fails_with(BadSetting, key="home", reason="shared"):
        check_home(tmp_path)


@pytest.mark.parametrize("sign", ["daemon.lock", "journal.db"])
def test_a_world_readable_folder_that_was_a_home_stays_one_and_keeps_its_mode(tmp_path, caplog, sign):
    journal = write(tmp_path / sign, 0o644)
    tmp_path.chmod(0o1777)
    check_home(tmp_path)
    close_home(tmp_path)
    assert (mode(tmp_path), mode(journal)) == (0o1777, 0o600)
    assert "Others may write in the home" in caplog.text


def test_a_folder_of_somebody_s_models_is_no_home(tmp_path):
    mine = write(tmp_path / "models" / "llama.gguf", 0o644)
    with fails_with(BadSetting, key="home", reason="models"):
        check_home(tmp_path)
    assert mode(mine) == 0o644


def test_a_home_whose_daemon_has_left_nothing_but_its_store_is_known_as_one(tmp_path):
    for room in ("blobs", "names", "models"):
        write(tmp_path / room / "x", 0o600)
    check_home(tmp_path)


@pytest.mark.parametrize("before", [(), ("config.toml",), ("catalog.toml",), ("logs/daemon.log",), ("lost+found/x",)])
def test_a_folder_of_one_s_own_becomes_a_home(tmp_path, before):
    for name in before:
        write(tmp_path / name, 0o644)
    tmp_path.chmod(0o755)
    check_home(tmp_path)
    close_home(tmp_path)
    assert mode(tmp_path) == (0o755 if "catalog.toml" in before else 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_is_another_user_s_keeps_its_mode(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    tmp_path.chmod(0o755)
    close_home(tmp_path)
    assert mode(tmp_path) == 0o755
