"""Making bundles: what is in them, and that a failure or a kill leaves none."""

from __future__ import annotations

import errno
import os
import tarfile

import pytest
from bundle_parts import stocked_home, tiny_wheels
from killing import killed_along_the_way

from llmos.abi.error import BadInput, Conflict, Corrupt, DiskFull
from llmos.bundle.archive import read_manifest, reading, verify
from llmos.bundle.making import make
from llmos.bundle.wheels import WheelChoice
from llmos.kernel.store.store import Store


@pytest.fixture
def home(tmp_path):
    return stocked_home(tmp_path / "home")


def test_every_file_is_in_the_manifest_and_in_the_sums(tmp_path, home):
    made = make(tmp_path / "out", home, wheels=WheelChoice(tiny_wheels(tmp_path / "wheels")))
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {file.path for file in made.manifest.files} == files - {"manifest.json", "SHA256SUMS"}
    listed = {line.partition("  ")[2] for line in (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()}
    assert listed == files - {"SHA256SUMS"}
    assert made.verified_bytes == made.manifest.size_bytes
    assert (made.wheels, made.manifest.target is not None) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out", "wheels"]


def test_a_tar_file_has_one_folder_with_the_same_files(tmp_path, home):
    made = make(tmp_path / "box.tar", home)
    with tarfile.open(tmp_path / "box.tar") as tar:
        names = tar.getnames()
    assert all(name.startswith("box/") for name in names)
    assert len(names) == len(made.manifest.files) + 2
    with reading(tmp_path / "box.tar") as reader:
        assert verify(reader, read_manifest(reader).files, lambda *_: None) == made.manifest.size_bytes


def test_nothing_is_overwritten_and_a_home_holds_no_bundle(tmp_path, home):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", home, ["tiny"])  # an empty folder is free
    make(tmp_path / "out.tar", home, ["tiny"])
    for name in ("out", "out.tar"):
        with pytest.raises(Conflict):
            make(tmp_path / name, home)
    with pytest.raises(BadInput):
        make(home / "out", home)


def test_a_damaged_or_lost_blob_stops_it_and_leaves_nothing(tmp_path, home):
    blob = home / "blobs" / Store(home).resolve("mood").files[0].digest
    content = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(b"?" * len(content))
    with pytest.raises(Corrupt):
        make(tmp_path / "out", home)
    blob.unlink()
    for name in ("out", "out.tar"):
        with pytest.raises(Conflict):
            make(tmp_path / name, home)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, home):
    def fill(phase, done, total):
        if phase == "verifying":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("out", "out.tar"):
        with pytest.raises(DiskFull):
            make(tmp_path / name, home, show=fill)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_models_are_read_while_the_store_changes(tmp_path, home):
    store = Store(home)
    made = make(tmp_path / "out", home, show=lambda *_: store.promote("mood:1"))
    assert dict(made.manifest.promotions)["mood"] == (2,)
    assert store.promoted("mood") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out", "out.tar"])
def test_a_kill_leaves_no_bundle_and_the_next_one_clears_up(tmp_path, home, name):
    for _ in killed_along_the_way(lambda: make(tmp_path / name, home)):
        assert not (tmp_path / name).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", name]


def test_only_what_a_killed_one_has_left_of_the_same_bundle_is_removed(tmp_path):
    home = stocked_home(tmp_path / "home")
    left = tmp_path / ".tmp-llmos[1]-0123abcd"
    others = [".tmp-llmos[1]-gpu-0123abcd", ".tmp-llmos1-0123abcd", ".tmp-llmos[1]-notes"]
    for name in (left.name, *others):
        (tmp_path / name).mkdir()
    make(tmp_path / "llmos[1]", home)
    assert sorted(path.name for path in tmp_path.glob(".tmp-*")) == sorted(others)
