"""Whose a home is: its owner's alone, an old one too."""

from __future__ import annotations

import stat
from pathlib import Path

from llmos.kernel.modes import close_home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_open_home_of_an_older_version_is_closed_and_what_is_not_llmos_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "datasets" / "rows" / "1").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    rows, journal = tmp_path / "datasets/rows/1/train.jsonl", tmp_path / "journal.db"
    blob, photo = tmp_path / "datasets" / "kept", tmp_path / "photos" / "cat.png"
    for path, is_now in ((rows, 0o644), (journal, 0o664), (blob, 0o444), (photo, 0o644)):
        path.write_bytes(b"text")
        path.chmod(is_now)
    (tmp_path / "datasets" / "link").symlink_to(photo)
    close_home(tmp_path)
    assert [mode(path) for path in (tmp_path, tmp_path / "datasets", rows, journal, blob)] == [
        0o700, 0o700, 0o600, 0o600, 0o400,
    ]  # fmt: skip
    assert mode(photo) == 0o644
