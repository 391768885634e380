"""Files with a purpose in the folder of uploads: across restarts, the same bytes once, and when they go."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from llmos.abi.error import NoRoom, TooLong
from llmos.abi.upload import Upload
from llmos.kernel.store.uploads import UploadLimits, Uploads
from llmos.kernel.store.whole_file import LinkedFile, WholeFile

DAY_S = 86_400.0


def keep(uploads: Uploads, data: bytes, name: str = "rows.jsonl", expires_at: float = 0.0, id: str = "") -> Upload:
    """A file of these bytes."""
    draft = WholeFile(uploads.folder, uploads.check_size)
    try:
        draft.write(data)
        draft.finish()
        return uploads.adopt(draft, name, "batch", expires_at, id)
    finally:
        draft.discard()


def test_a_kept_file_is_there_after_a_restart_and_a_draft_is_not(tmp_path: Path):
    uploads = Uploads(tmp_path)
    kept = keep(uploads, b"abc")
    draft = WholeFile(tmp_path)
    draft.write(b"half")
    again = Uploads(tmp_path)
    assert again.all() == [kept]
    assert (kept.sha256, kept.purpose) == (hashlib.sha256(b"abc").hexdigest(), "batch")
    assert again.file(kept.id).read_bytes() == b"abc"
    assert sorted(one.name for one in tmp_path.iterdir()) == [kept.id, f"{kept.id}.json"]
    draft.discard()


def test_time_does_not_end_a_file_with_a_purpose_unless_it_says_when(tmp_path: Path):
    now = [1_000_000.0]
    uploads = Uploads(tmp_path, clock=lambda: now[0])
    kept, passing = keep(uploads, b"a"), keep(uploads, b"b", expires_at=now[0] + DAY_S)
    now[0] += DAY_S - 1
    uploads.touch([passing.id])  # use does not prolong it
    assert uploads.sweep(()) == []
    now[0] += 1
    assert [one.id for one in uploads.sweep({passing.id})] == []
    assert [one.id for one in uploads.sweep(())] == [passing.id]
    now[0] += 10_000 * DAY_S
    assert uploads.sweep(()) == []
    assert uploads.all() == [kept]


def test_a_file_of_an_id_that_there_is_changes_nothing(tmp_path: Path):
    uploads = Uploads(tmp_path)
    first = keep(uploads, b"first", id="0123456789abcdef")
    assert keep(uploads, b"second", id="0123456789abcdef") == first
    assert uploads.file(first.id).read_bytes() == b"first"


def test_a_file_of_the_home_is_linked_and_not_copied(tmp_path: Path):
    source = tmp_path / "output.jsonl"
    source.write_bytes(b"lines")
    uploads = Uploads(tmp_path / "uploads")
    draft = LinkedFile(source, uploads.folder)
    draft.finish()
    kept = uploads.adopt(draft, "output.jsonl", "batch_output")
    draft.discard()
    assert uploads.file(kept.id).stat().st_ino == source.stat().st_ino
    assert (kept.size_bytes, kept.sha256) == (5, hashlib.sha256(b"lines").hexdigest())


def test_limits_hold_for_kept_files_and_nothing_is_left_of_one_that_is_refused(tmp_path: Path):
    uploads = Uploads(tmp_path, UploadLimits(most_bytes=10, most_bytes_together=15))
    with pytest.raises(TooLong):
        keep(uploads, b"x" * 11)
    keep(uploads, b"x" * 10)
    with pytest.raises(NoRoom):
        keep(uploads, b"y" * 10)
    assert len(list(tmp_path.iterdir())) == 2


def test_drafts_that_grow_side_by_side_stay_within_the_limit_together(tmp_path: Path):
    uploads = Uploads(tmp_path, UploadLimits(most_bytes=10, most_bytes_together=15))
    first, second = uploads.draft(), uploads.draft()
    first.write(b"x" * 10)
    second.write(b"y" * 5)
    with pytest.raises(NoRoom):
        second.write(b"y")
    first.discard()
    second.write(b"y" * 5)
    second.finish()
    kept = uploads.adopt(second, "rows.jsonl", "batch")
    second.discard()
    assert kept.size_bytes == 10
    third = uploads.draft()
    with pytest.raises(NoRoom):
        third.write(b"z" * 6)
    third.write(b"z" * 5)
    third.discard()
