"""Taking backups: what is in them, what a kill leaves, and what changes meanwhile."""

from __future__ import annotations

import shutil

import pytest
from homes import freshen, stocked_home, submit
from killing import killed_along_the_way

from llmos.abi.error import BadInput, Conflict, Corrupt
from llmos.backup.journal_state import place, read_state
from llmos.backup.taking import CHANGED, Collector, take
from llmos.backup.vault import reading, verify_objects, writing_folder
from llmos.kernel.store.store import Store


def quiet(phase, done, total):
    pass


def test_only_what_is_new_is_written_again(tmp_path):
    home = stocked_home(tmp_path / "home")
    first = take(home, tmp_path / "bak", lambda: freshen(home))
    assert first.verified_bytes == sum(first.record.objects.values())
    Store(home).promote("mood:1")
    second = take(home, tmp_path / "bak", lambda: freshen(home))
    assert 0 < second.new_bytes < first.new_bytes
    assert second.verified_bytes >= sum(second.record.objects.values())


def test_an_object_of_an_earlier_backup_that_was_damaged_is_written_again(tmp_path):
    home = stocked_home(tmp_path / "home")
    record = take(home, tmp_path / "bak", lambda: freshen(home)).record
    blob = next(file for file in record.files if file.path.startswith("blobs/") and file.size_bytes)
    stored = tmp_path / "bak" / "objects" / blob.digest
    stored.chmod(0o600)
    stored.write_bytes(b"?" * blob.size_bytes)
    take(home, tmp_path / "bak", lambda: freshen(home))
    with reading(tmp_path / "bak") as reader:
        verify_objects(reader, reader.record().objects, quiet)


def test_a_damaged_blob_stops_the_backup_and_leaves_none(tmp_path):
    home = stocked_home(tmp_path / "home")
    blob = next((home / "blobs").iterdir())
    size = blob.stat().st_size
    blob.chmod(0o600)
    blob.write_bytes(b"?" * size)
    with pytest.raises(Corrupt):
        take(home, tmp_path / "bak.tar", lambda: freshen(home))
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_version_that_is_removed_meanwhile_is_left_out(tmp_path):
    home = stocked_home(tmp_path / "home")
    freshen(home)
    store = Store(home)

    def remove(phase, done, total):
        if phase == "copying" and store.index.models.of("mood"):
            store.remove("mood")
            store.collect()

    record = take(home, tmp_path / "bak", lambda: None, show=remove).record
    assert not [file.path for file in record.files if file.path.startswith("names/mood/1")]
    assert "names/tiny/1.json" in {file.path for file in record.files}


def test_a_lost_blob_of_a_version_that_is_there_is_an_error(tmp_path):
    home = stocked_home(tmp_path / "home")
    next((home / "blobs").iterdir()).unlink()
    with pytest.raises(Conflict):
        take(home, tmp_path / "bak", lambda: freshen(home))


def test_a_manifest_that_cannot_be_read_is_said_and_the_rest_is_kept(tmp_path):
    home = stocked_home(tmp_path / "home")
    (home / "names" / "mood" / "1.json").write_text("{")
    record = take(home, tmp_path / "bak", lambda: freshen(home)).record
    assert len(record.notes) == 1
    assert "names/mood/2.json" in {file.path for file in record.files}


def test_a_training_s_checkpoint_is_in_it_and_what_nobody_goes_on_with_is_not(tmp_path):
    home = stocked_home(tmp_path / "home")
    submit(home, 7)
    for pid in (7, 8):
        (home / "scratch" / str(pid) / "step-1").mkdir(parents=True)
        (home / "scratch" / str(pid) / "step-1" / "state.json").write_text("{}")
    record = take(home, tmp_path / "bak", lambda: freshen(home)).record
    assert [file.path for file in record.files if "scratch" in file.path] == ["scratch/7/step-1/state.json"]


class Replacing:
    """A vault beside a training that writes a checkpoint, and removes the one before, whenever a file was copied."""

    earlier = frozenset()

    def __init__(self, vault, scratch):
        self.vault, self.scratch, self.folder = vault, scratch, vault.folder
        self.step = 0
        self.write()

    def write(self):
        before = self.scratch / f"step-{self.step}"
        self.step += 1
        made = self.scratch / f"step-{self.step}"
        made.mkdir(parents=True)
        for name in ("state.json", "weights"):
            (made / name).write_text(f"{name} of step {self.step}")
        if before.exists():
            shutil.rmtree(before)

    def add(self, source, digest=""):
        measure = self.vault.add(source, digest)
        self.write()
        return measure

    def __getattr__(self, name):
        return getattr(self.vault, name)


def backed_up(tmp_path, most_open):
    """The text of each file of process 7 in a backup that is taken beside such a training, and the backup's notes."""
    home = stocked_home(tmp_path / "home")
    submit(home, 7)
    freshen(home)
    with writing_folder(tmp_path / "bak") as vault:
        collector = Collector(home, Replacing(vault, home / "scratch" / "7"), quiet, most_open=most_open)
        collector.collect(read_state(home)[0], place(home))
        kept = {path: file for path, file in collector.files.items() if path.startswith("scratch/7/")}
        return {path: (vault.folder / "objects" / kept[path].digest).read_text() for path in kept}, collector.notes


def test_a_checkpoint_that_is_replaced_while_it_is_copied_is_whole(tmp_path):
    copied, notes = backed_up(tmp_path, most_open=2)
    ((folder, step),) = {(path.rpartition("/")[0], text.rpartition(" ")[2]) for path, text in copied.items()}
    assert (len(copied), folder, notes) == (2, f"scratch/7/step-{step}", [])


def test_of_too_many_files_to_open_none_is_kept_that_was_replaced_meanwhile(tmp_path):
    assert backed_up(tmp_path, most_open=1) == ({}, [CHANGED.format(7)])


@pytest.mark.parametrize("name", ["bak", "bak.tar"])
def test_a_backup_that_is_killed_on_the_way_is_whole_or_not_there(tmp_path, name):
    home, target = stocked_home(tmp_path / "home"), tmp_path / name
    freshen(home)
    for _ in killed_along_the_way(lambda: take(home, target, lambda: None)):
        if target.is_dir():
            with reading(target) as reader:
                for record in reader.records():
                    verify_objects(reader, record.objects, quiet)
        elif target.exists():
            with reading(target) as reader:
                verify_objects(reader, reader.record().objects, quiet)
            target.unlink()
    with reading(target) as reader:
        verify_objects(reader, reader.record().objects, quiet)
    assert list(tmp_path.rglob(".tmp-*")) == []


def test_a_target_that_cannot_be_one_is_refused(tmp_path):
    home = stocked_home(tmp_path / "home")
    with pytest.raises(BadInput):
        take(home, home / "bak", lambda: freshen(home))
    with pytest.raises(BadInput):
        take(tmp_path / "none", tmp_path / "bak", lambda: freshen(home))
    with pytest.raises(BadInput):
        take(home, tmp_path / "bak.tar", lambda: freshen(home), keep=2)
