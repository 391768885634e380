"""Places for backups: folders that several share, and tar files."""

from __future__ import annotations

import pytest

from llmos.abi.error import BadInput, Conflict, Corrupt, NotFound
from llmos.backup.record import BackupFile, BackupRecord
from llmos.backup.vault import commit_file, reading, verify_objects, writing_file, writing_folder


def quiet(phase, done, total):
    pass


def record_of(number, *files):
    return BackupRecord(f"20261129T18000{number}-000000", float(number), "0", "/h", tuple(files))


def put(vault, tmp_path, text):
    (tmp_path / "source").write_text(text)
    measure = vault.add(tmp_path / "source")
    return BackupFile(text, measure.digest, measure.size_bytes, 0o600)


def test_equal_files_of_two_backups_are_stored_once(tmp_path):
    with writing_folder(tmp_path / "bak") as vault:
        vault.seal(record_of(1, put(vault, tmp_path, "one")))
    with writing_folder(tmp_path / "bak") as vault:
        one, two = put(vault, tmp_path, "one"), put(vault, tmp_path, "two")
        assert vault.earlier == {one.digest}
        vault.seal(record_of(2, one, two))
    assert len(list((tmp_path / "bak" / "objects").iterdir())) == 2
    with reading(tmp_path / "bak") as reader:
        assert [record.id[14] for record in reader.records()] == ["1", "2"]
        assert reader.record("20261129T180001-000000").files == (one,)


def test_older_backups_are_removed_with_what_only_they_needed(tmp_path):
    with writing_folder(tmp_path / "bak") as vault:
        kept = put(vault, tmp_path, "kept")
        vault.seal(record_of(1, kept, put(vault, tmp_path, "gone")))
        vault.seal(record_of(2, kept))
        assert vault.keep(1) == len("gone")
        assert [record.files for record in vault.records()] == [(kept,)]
        assert verify_objects(vault, record_of(2, kept).objects, quiet) == len("kept")


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with pytest.raises(Conflict), writing_folder(tmp_path / "letters"):
        pass
    with pytest.raises(BadInput), writing_folder(tmp_path / "letters" / "dear.txt"):
        pass


def test_two_backups_at_once_into_one_folder_are_refused(tmp_path):
    with writing_folder(tmp_path / "bak"), pytest.raises(Conflict), writing_folder(tmp_path / "bak"):
        pass


def test_a_damaged_object_is_found(tmp_path):
    with writing_folder(tmp_path / "bak") as vault:
        file = put(vault, tmp_path, "text")
        stored = tmp_path / "bak" / "objects" / file.digest
        stored.chmod(0o600)
        stored.write_text("texy")
        assert vault.has(file.digest, 4)
        assert not vault.is_sound(file.digest)
        with pytest.raises(Corrupt):
            verify_objects(vault, {file.digest: 4}, quiet)
        with pytest.raises(Corrupt):
            verify_objects(vault, {"ab" * 32: 4}, quiet)


def test_a_tar_file_appears_whole_and_overwrites_nothing(tmp_path):
    path = tmp_path / "bak.tar"
    with writing_file(path) as vault:
        file = put(vault, tmp_path, "text")
        vault.seal(record_of(1, file))
        assert not path.exists()
        commit_file(vault, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".tmp-")] == []
    with reading(path) as reader:
        assert reader.record().files == (file,)
        with reader.open(file.digest) as stored:
            assert stored.read() == b"text"
        with pytest.raises(NotFound):
            reader.record("20200101T000000-000000")
    with pytest.raises(Conflict), writing_file(path):
        pass


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_part_of_a_tar_file_is_no_backup(tmp_path, part):
    path = tmp_path / "bak.tar"
    with writing_file(path) as vault:
        vault.seal(record_of(1, put(vault, tmp_path, "text" * 1000)))
        commit_file(vault, path)
    path.write_bytes(path.read_bytes()[: int(8_000 * part)])
    with pytest.raises(Corrupt), reading(path) as reader:
        verify_objects(reader, reader.record().objects, quiet)


def test_where_nothing_is_there_is_no_backup(tmp_path):
    with pytest.raises(NotFound), reading(tmp_path / "none"):
        pass
    with pytest.raises(NotFound), reading(tmp_path) as reader:
        reader.record()
