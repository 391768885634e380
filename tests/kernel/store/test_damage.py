"""Damage in a store: what is found says how it is mended, and bringing a base in again mends all that hangs on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from stocking import base, dataset, model, offer, safetensors

from llmos.abi.catalog import catalog
from llmos.abi.error import Corrupt
from llmos.abi.model import OfferKind
from llmos.kernel.store.pages import way_out
from llmos.kernel.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A base, a model on it, promoted, and a dataset."""
    store = Store(tmp_path)
    store.commit(base(tmp_path), 1)
    store.commit(model(tmp_path, 2), 2)
    store.promote("ner:1")
    store.commit(dataset(tmp_path, 3), 3)
    return store


def flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def form(home: Path, pid: int):
    made = offer(home, pid, 9, OfferKind.RESIDENT, "minilm", {"model.safetensors": safetensors(b"\3" * 8)})
    return type(made)(made.offer_id, made.kind, made.name, made.folder, made.files, {"base": "minilm:1", "dtype": "x"})


def test_a_base_brought_in_again_mends_its_files_and_drops_what_was_made_of_it(store, tmp_path):
    made = Path(store.commit(form(tmp_path, 4), 4))
    weights = tmp_path / "models/minilm/1/model.safetensors"
    whole = weights.read_bytes()
    flip(tmp_path / "blobs" / store.resolve("minilm").base_digest)
    assert [(d.ref, d.path) for d in store.examine().damages] == [("minilm:1", "model.safetensors")]
    with weights.open("rb") as mapped:
        assert store.commit(base(tmp_path, 5), 5).ref == "minilm:1"
        assert mapped.read() != whole  # who had it open keeps the old bytes to the end
    assert weights.read_bytes() == whole
    assert not made.exists()
    assert store.drain_mended() == {"minilm:1"}
    assert store.drain_mended() == set()
    assert store.examine().damages == ()
    assert store.located("ner").base is not None


def test_a_repair_that_was_stopped_after_the_blob_is_completed_by_the_next(store, tmp_path):
    blob, weights = tmp_path / "blobs" / store.resolve("minilm").base_digest, tmp_path / "models/minilm/1"
    whole = blob.read_bytes()
    flip(blob)
    blob.unlink()
    blob.write_bytes(whole)  # all that a kill, or a disk that was full then, let it do
    again = Store(tmp_path)
    assert [one.ref for one in again.examine().damages] == ["minilm:1"]
    assert again.commit(base(tmp_path, 5), 5).ref == "minilm:1"
    assert again.examine().damages == ()
    assert (weights / "model.safetensors").samefile(blob)
    assert again.drain_mended() == {"minilm:1"}


def test_what_is_offered_again_and_is_sound_mends_nothing(store, tmp_path):
    store.commit(base(tmp_path, 5), 5)
    (tmp_path / "models/minilm/1/model.safetensors").unlink()
    (tmp_path / "models/minilm/1/model.safetensors").write_bytes(
        (tmp_path / "blobs" / store.resolve("minilm").base_digest).read_bytes()
    )  # as on a disk without links
    store.commit(base(tmp_path, 6), 6)
    assert store.drain_mended() == set()


def test_a_manifest_that_is_garbled_while_it_is_known_is_written_again(store, tmp_path):
    for page in ("names/minilm/1.json", "names/ner/promoted.json", "datasets/tickets/1.json"):
        (tmp_path / page).write_bytes(b"\0\0garbled")
    found = {one.ref: one.message for one in store.examine().damages}
    assert found.keys() == {"minilm:1", "ner", "tickets@1"}
    assert all("was written again" in said for said in found.values())
    assert store.examine().damages == ()
    again = Store(tmp_path)
    assert again.damaged == ()
    assert again.promoted("ner") == 1


def test_lost_versions_are_said_with_the_command_that_helps_and_never_collected(store, tmp_path):
    weights = tmp_path / "models/ner/1/head.safetensors"
    (tmp_path / "names/ner/1.json").write_bytes(b"{")
    (tmp_path / "names/minilm/promoted.json").write_bytes(b"[1")
    again = Store(tmp_path)
    again.collect()
    assert weights.exists()
    assert (tmp_path / "blobs").stat().st_nlink
    said = {one.ref: (one.message, one.hint) for one in again.examine().damages}
    assert said.keys() == {"ner:1", "minilm"}
    assert "Its files are kept in" in said["ner:1"][0]
    assert said["ner:1"][1].startswith("mv ")
    assert said["minilm"][1] == "llmos promote minilm:VERSION"
    again.promote("minilm:1")
    assert {one.ref for one in again.examine().damages} == {"ner:1"}
    (tmp_path / "names/ner/1.json").unlink()  # as the hint says
    last = Store(tmp_path)
    assert last.collect() > 0
    assert not weights.exists()
    assert last.examine().damages == ()


@pytest.mark.parametrize("is_flipped", [False, True])
def test_a_base_whose_manifest_is_lost_gets_its_version_and_models_back(store, tmp_path, is_flipped):
    blob = tmp_path / "blobs" / store.resolve("minilm").base_digest
    whole = blob.read_bytes()
    (tmp_path / "names/minilm/1.json").write_bytes(b"")
    if is_flipped:
        flip(blob)
    again = Store(tmp_path)
    (damage,) = again.examine().damages
    assert "ner:1 stand on it" in damage.message
    assert damage.hint == "llmos pull SOURCE --name minilm"
    assert again.commit(base(tmp_path, 7), 7).ref == "minilm:1"
    for seen in (again, Store(tmp_path)):
        assert seen.examine().damages == ()
        assert seen.located("ner").base.manifest.ref == "minilm:1"
        assert seen.promoted("minilm") == 1
        assert (tmp_path / "models/minilm/1/model.safetensors").read_bytes() == whole


def test_another_base_of_that_name_does_not_take_the_lost_one_s_number(store, tmp_path):
    (tmp_path / "names/minilm/1.json").write_bytes(b"")
    again = Store(tmp_path)
    assert again.commit(base(tmp_path, 7, values=b"\5" * 16), 7).ref == "minilm:2"


def test_a_damaged_base_says_where_it_came_from(tmp_path):
    store = Store(tmp_path)
    for pid, (name, source) in enumerate({"a": "folder:/my models/a", "b": "hf:org/b@1f", "c": "pypi:c==1"}.items(), 1):
        made = base(tmp_path, pid, name, bytes([pid]) * 16)
        store.commit(type(made)(1, made.kind, name, made.folder, made.files, {**made.draft, "source": source}), pid)
        flip(tmp_path / "blobs" / store.resolve(name).base_digest)
    assert [one.hint for one in store.examine().damages] == [
        "llmos pull '/my models/a' --name a",
        "llmos pull hf:org/b@1f --name b",
        "llmos pull c",
    ]


def test_a_catalog_base_is_asked_for_by_its_catalog_name_whatever_its_name_here(tmp_path):
    own = tmp_path / "catalog.toml"
    own.write_text(
        """[mine]
about = ""
license = ""
task = "embed"
tasks = ["embed"]
download_bytes = 1
wheel = {package = "p", version = "1", filename = "p.whl", sha256 = "", size_bytes = 1, folder = "", files = []}
"""
    )
    (minilm,) = [entry.wheel.source for entry in catalog().values() if entry.name == "minilm"]
    store = Store(tmp_path / "home", own)
    for pid, (name, source) in enumerate({"a": minilm, "b": "pypi:p==1", "mine": "pypi:p==1"}.items(), 1):
        made = base(tmp_path / "home", pid, name, bytes([pid]) * 16)
        store.commit(type(made)(1, made.kind, name, made.folder, made.files, {**made.draft, "source": source}), pid)
        flip(tmp_path / "home" / "blobs" / store.resolve(name).base_digest)
    commands = ["llmos pull minilm --name a", "llmos pull mine --name b", "llmos pull mine"]
    assert [one.hint for one in store.examine().damages] == commands
    own.write_text("[[[")
    assert [one.hint for one in store.examine().damages] == [commands[0], "llmos pull b", commands[2]]


def test_a_pulled_adapter_is_pulled_again_and_a_trained_one_is_trained_again(store, tmp_path):
    weights = b"\7" * 8
    for pid, source in ((8, "folder:/my/adapter"), (9, "folder:/my/adapter")):
        made = model(tmp_path, pid, "style", values=weights)
        draft = {**made.draft, "source": source}
        kept = store.commit(type(made)(1, made.kind, "style", made.folder, made.files, draft), pid)
        if pid == 8:
            head = next(tmp_path / "blobs" / file.digest for file in kept.files if file.path == "head.safetensors")
            flip(head)
            (damage,) = store.examine().damages
            assert (damage.ref, damage.hint) == (
                "style:1",
                "llmos pull /my/adapter --name style --base minilm:1 --task tag",
            )
    assert store.examine().damages == ()
    flip(tmp_path / "models/ner/1/head.safetensors")
    assert [one.hint for one in store.examine().damages] == ["llmos rm ner:1, and train it again"]


def test_a_base_that_lost_a_file_is_said_in_a_sentence_with_the_way_to_mend_it(tmp_path, store):
    (tmp_path / "blobs" / store.resolve("minilm").base_digest).unlink()
    (tmp_path / "models/minilm/1/model.safetensors").unlink()
    again = Store(tmp_path)
    for ref in ("minilm", "ner"):
        with pytest.raises(Corrupt, match=r"minilm:1 lost .* To mend it: llmos pull minilm"):
            again.located(ref)
    assert again.commit(base(tmp_path, 5), 5).ref == "minilm:1"
    assert again.located("ner").base is not None
    assert again.examine().damages == ()


def test_the_command_for_a_damaged_base_asks_for_it_as_it_was_asked_for(tmp_path):
    store = Store(tmp_path)
    options = {"a": {"engine": "vllm"}, "b": {"engine": "onnx"}}
    for pid, name in enumerate(options, 1):
        made = base(tmp_path, pid, name, bytes([pid]) * 16)
        draft = {
            **made.draft,
            "source": "folder:/m",
            "options": options[name],
            "task": "classify",
            "labels": ["x", "y"],
        }
        store.commit(type(made)(1, made.kind, name, made.folder, made.files, draft), pid)
    assert [way_out(store.resolve(name)) for name in options] == [
        "llmos pull /m --name a --engine vllm",
        "llmos pull /m --name b --task classify --labels x,y",
    ]
