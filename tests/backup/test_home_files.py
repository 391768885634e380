"""Which files of a home a backup holds."""

from __future__ import annotations

from homes import stocked_home

from llmos.abi.feedback_file import FILE as FEEDBACK
from llmos.backup.home_files import checkpoint_identity, page_files, plain_files, scratch_files
from llmos.config import LOCAL_KEY
from llmos.kernel.keys.key_store import FILE as KEYS
from llmos.kernel.programs.batch import BATCHES
from llmos.kernel.requests.request_log import FOLDER as REQUESTS


def test_promotions_come_before_the_versions_that_they_name(tmp_path):
    home = stocked_home(tmp_path)
    names = [path.relative_to(home).as_posix() for path in plain_files(home)]
    assert names.index("names/mood/promoted.json") < names.index("names/mood/1.json")
    assert {"config.toml", "later/page.txt", "names/tiny/1.json"} <= set(names)
    assert not [name for name in names if name.startswith(("models/", "blobs/", "journal", "run/"))]


def test_half_written_files_links_and_logs_of_databases_are_left_out(tmp_path):
    (tmp_path / "rows").mkdir()
    for name in ("rows.db", "rows.db-wal", ".tmp-x", "lonely-wal"):
        (tmp_path / "rows" / name).touch()
    (tmp_path / "rows" / "link").symlink_to("/etc/passwd")
    assert [path.name for path in plain_files(tmp_path)] == ["lonely-wal", "rows.db"]


def test_all_that_the_daemon_keeps_is_in_it_and_its_present_secret_is_not(tmp_path):
    kept = (
        KEYS,
        FEEDBACK,
        f"{REQUESTS}/2026-01-31.db",
        f"{BATCHES}/batch_1.json",
        f"{BATCHES}/batch_1/output.jsonl",
        "fine_tuning/ftjob-1.json",
        "rollouts/disagreements.db",
        "a_room_that_nobody_knows_yet/page.json",
    )
    for name in (*kept, LOCAL_KEY, "daemon.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert {path.relative_to(tmp_path).as_posix() for path in plain_files(tmp_path)} == {*kept}


def test_a_page_names_its_blobs_and_other_pages_none(tmp_path):
    home = stocked_home(tmp_path)
    page = home / "names" / "tiny" / "1.json"
    found = page_files(home, page, page.read_bytes())
    assert found is not None
    assert all((home / "blobs" / file.digest).exists() for file in found.files)
    promoted = page.with_name("promoted.json")
    assert page_files(home, promoted, promoted.read_bytes()) is None


def test_a_replaced_file_makes_another_checkpoint_and_a_draft_does_not(tmp_path):
    step = tmp_path / "scratch" / "7" / "step-1"
    step.mkdir(parents=True)
    (step / "state.json").write_text("1")
    before = checkpoint_identity(tmp_path, 7)
    (tmp_path / "scratch" / "7" / "draft").mkdir()
    (tmp_path / "scratch" / "7" / "draft" / "state.json").write_text("2")
    assert checkpoint_identity(tmp_path, 7) == before
    (step / "new").write_text("1")
    (step / "new").replace(step / "state.json")
    assert checkpoint_identity(tmp_path, 7) != before
    assert scratch_files(tmp_path, 8) == []
