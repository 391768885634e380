"""Proofs: what is hashed before it is used, and how often."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from llmos.abi.error import Corrupt
from llmos.abi.model import File, OfferKind
from llmos.kernel.store.checksums import Checksums
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base, add_model, offer, safetensors


class Reader:
    """What a proof reads, counted."""

    def __init__(self) -> None:
        self.reads = 0

    def check(self, file: File, path: Path) -> None:
        self.reads += 1
        if hashlib.sha256(path.read_bytes()).hexdigest() != file.digest:
            raise Corrupt("It is damaged")


@pytest.mark.parametrize(("large_bytes", "again"), [(1, 0), (100, 1)], ids=["large", "small"])
def test_a_file_is_read_once_a_daemon_and_a_large_one_only_when_it_has_changed(tmp_path, large_bytes, again):
    path, reader = tmp_path / "weights", Reader()
    path.write_bytes(b"good")
    file = File("weights", hashlib.sha256(b"good").hexdigest(), 4)
    first = Checksums(tmp_path / "verified.json", reader.check, large_bytes)
    first.prove(file, path)
    first.prove(file, path)
    assert reader.reads == 1
    Checksums(tmp_path / "verified.json", reader.check, large_bytes).prove(file, path)
    assert reader.reads == 1 + again
    path.unlink()
    path.write_bytes(b"evil")
    with pytest.raises(Corrupt):
        Checksums(tmp_path / "verified.json", reader.check, large_bytes).prove(file, path)


def damage(path: Path) -> None:
    """Change the last byte, as a failing disk would."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("damaged", ["mood", "tiny"])
def test_a_model_whose_weights_or_base_are_damaged_is_not_given_to_a_process(tmp_path, damaged):
    store = Store(tmp_path)
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=901)
    store.prove("mood:1", "float32")
    name = "head.safetensors" if damaged == "mood" else "model.safetensors"
    damage(tmp_path / "models" / damaged / "1" / name)
    with fails_with(Corrupt, file=name):
        Store(tmp_path).prove("mood:1", "float32")


def test_a_damaged_resident_form_is_thrown_away_to_be_made_again(tmp_path):
    store = Store(tmp_path)
    base = add_base(store)
    files, draft = {"model.safetensors": safetensors(5)}, {"base": base.ref, "dtype": "bfloat16"}
    form = store.commit(offer(tmp_path / "scratch" / "7", OfferKind.RESIDENT, base.name, files, draft), 7)
    store.prove("tiny:1", "bfloat16")
    assert store.located("tiny:1", "bfloat16").resident is not None
    damage(Path(form, "model.safetensors"))
    again = Store(tmp_path)
    again.prove("tiny:1", "bfloat16")
    assert again.located("tiny:1", "bfloat16").resident is None


def test_an_examination_reads_what_was_proven_before_and_says_all_that_is_damaged(tmp_path):
    store = Store(tmp_path)
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=901)
    files = store.examine()
    assert (files.files > 0, files.read_bytes > 0, files.damages) == (True, True, ())
    store.prove("mood:1", "float32")
    path = tmp_path / "models" / "mood" / "1" / "head.safetensors"
    before = path.stat()
    damage(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    store.prove("mood:1", "float32")  # it was proven, and looks as it did
    (found,) = store.examine().damages
    assert (found.ref, found.path, "is damaged on the disk" in found.message) == ("mood:1", "head.safetensors", True)


def test_a_damaged_resident_form_is_said_and_thrown_away(tmp_path):
    store = Store(tmp_path)
    base = add_base(store)
    files, draft = {"model.safetensors": safetensors(4)}, {"base": base.ref, "dtype": "float32"}
    form = store.commit(offer(tmp_path / "scratch" / "902", OfferKind.RESIDENT, base.name, files, draft), 902)
    damage(Path(form, "model.safetensors"))
    (found,) = store.examine().damages
    assert (found.ref, store.examine().damages) == (f"resident form of {base.ref} in float32", ())
