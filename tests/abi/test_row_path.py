"""Paths with a part behind a colon: what is a file's own name, and what names a sheet, a table or a split in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.abi.error import PathNotAllowed
from llmos.abi.row_path import split_part
from llmos.config import Config
from llmos.kernel.paths import Roots
from llmos.sdk.request import data_of


def test_a_part_is_what_stands_behind_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "rows.db").touch()
    (tmp_path / "odd:name.csv").touch()
    assert split_part(f"{tmp_path}/rows.db:tickets") == (f"{tmp_path}/rows.db", "tickets")
    assert split_part(f"{tmp_path}/rows.db") == (f"{tmp_path}/rows.db", "")
    assert split_part(f"{tmp_path}/odd:name.csv") == (f"{tmp_path}/odd:name.csv", "")
    assert split_part(f"{tmp_path}/gone.db:tickets") == (f"{tmp_path}/gone.db:tickets", "")


def test_a_path_with_a_part_is_made_absolute_as_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.db").touch()
    monkeypatch.chdir(tmp_path)
    assert data_of("rows.db:tickets").train == f"{tmp_path}/rows.db:tickets"
    assert data_of(".").train == str(tmp_path)


def test_the_file_of_a_part_must_lie_below_the_allowed_folders(tmp_path: Path) -> None:
    for name in ("root", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.db").touch()
    (tmp_path / "root/near.db").symlink_to(tmp_path / "root/rows.db")
    (tmp_path / "root/far.db").symlink_to(tmp_path / "secret/rows.db")
    roots = Roots(Config(tmp_path, host="0.0.0.0", insecure=True, data_roots=(tmp_path / "root",)))
    assert roots.follow(f"{tmp_path}/root/near.db:tickets") == f"{tmp_path}/root/rows.db:tickets"
    with pytest.raises(PathNotAllowed):
        roots.follow(f"{tmp_path}/root/far.db:tickets")
