"""The store as a whole: what is committed is there, whole and the same, until it is forgotten."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from stocking import base, dataset, model, offer, safetensors

from llmos.abi.error import BadInput, Conflict, Corrupt, DatasetNotFound, ModelNotFound, NotFound, UnsafeWeights
from llmos.abi.model import Offer, OfferKind, Part
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_a_first_base_is_promoted_and_found_by_its_bare_name(store, tmp_path):
    manifest = store.commit(base(tmp_path), 1)
    assert (manifest.ref, store.promoted("minilm"), store.resolve("minilm")) == ("minilm:1", 1, manifest)
    assert manifest.base_digest == manifest.files[0].digest
    located = store.located("minilm")
    assert Path(located.folder, "config.json").read_text() == "{}"


def test_the_same_offer_twice_gives_the_same_version_even_when_its_files_are_gone(store, tmp_path):
    store.commit(base(tmp_path), 1)
    first = offer_of_model = model(tmp_path, 2)
    assert store.commit(first, 2).ref == store.commit(offer_of_model, 2).ref == "ner:1"
    assert Store(tmp_path).commit(first, 2).ref == "ner:1"
    assert store.commit(model(tmp_path, 2), 2, born=5.0).ref == "ner:2"


def test_the_same_base_or_dataset_from_another_process_is_not_kept_twice(store, tmp_path):
    assert store.commit(base(tmp_path, 1), 1) == store.commit(base(tmp_path, 2), 2)
    assert store.commit(dataset(tmp_path, 1), 1) == store.commit(dataset(tmp_path, 2), 2)
    assert store.commit(dataset(tmp_path, 3, rows=b"other"), 3).ref == "tickets@2"
    assert store.dataset("tickets").ref == "tickets@2"


def test_a_version_number_is_never_used_again_even_when_all_are_removed(store, tmp_path):
    store.commit(base(tmp_path, 1), 1)
    store.commit(model(tmp_path, 2), 2)
    store.commit(model(tmp_path, 3), 3)
    store.commit(dataset(tmp_path, 6), 6)
    store.promote("ner:2")
    store.remove("ner")
    store.remove_dataset("tickets")
    store.remove("minilm")
    again = Store(tmp_path)
    assert (again.manifests(), again.damaged) == ([], ())
    assert sorted(path.name for path in (tmp_path / "names").rglob("*.*")) == ["1.gone", "2.gone"]
    assert again.commit(base(tmp_path, 4), 4).ref == again.resolve("minilm").ref == "minilm:2"
    assert again.commit(model(tmp_path, 5, on="minilm:2"), 5).ref == "ner:3"
    assert again.promotions("ner") == Store(tmp_path).promotions("ner") == ()
    assert again.commit(dataset(tmp_path, 7, rows=b"other"), 7).ref == "tickets@2"
    assert Store(tmp_path).dataset("tickets").ref == "tickets@2"


def test_a_model_stands_on_a_base_that_is_there_and_keeps_it_there(store, tmp_path):
    with pytest.raises(ModelNotFound):
        store.commit(model(tmp_path, 2), 2)
    store.commit(base(tmp_path), 1)
    made = store.commit(model(tmp_path, 2, on="minilm"), 2)
    assert (made.base, made.base_digest) == ("minilm:1", store.resolve("minilm").base_digest)
    assert store.located("ner:1").base == store.located("minilm")
    with fails_with(Conflict, models=["ner:1"]):
        store.remove("minilm")
    assert store.remove("ner") + store.remove("minilm") == ["ner:1", "minilm:1"]


def test_promotion_moves_and_rolls_back_over_a_restart(store, tmp_path):
    store.commit(base(tmp_path), 1)
    for pid in (2, 3, 4):
        store.commit(model(tmp_path, pid, values=bytes([pid])), pid)
    assert store.found("ner").ref == "ner:3"  # none promoted: the newest, to look at
    with fails_with(Conflict, name="ner", candidates=["ner:1", "ner:2", "ner:3"]):
        store.resolve("ner")
    for version in (1, 2, 2, 3):
        store.promote(f"ner:{version}")
    assert store.promotions("ner") == (1, 2, 3)
    assert store.rollback("ner").ref == "ner:2"
    store.remove("ner:2")
    again = Store(tmp_path)
    assert (again.resolve("ner").ref, again.promotions("ner")) == ("ner:1", (1,))
    with fails_with(Conflict, name="ner"):
        again.rollback("ner")


def test_a_removed_versions_number_is_not_given_again_while_its_name_lives(store, tmp_path):
    store.commit(base(tmp_path), 1)
    for pid in (2, 3):
        store.commit(model(tmp_path, pid), pid)
    store.remove("ner:2")
    assert store.commit(model(tmp_path, 4), 4).ref == "ner:3"
    store = Store(tmp_path)
    store.remove("ner:3")
    assert Store(tmp_path).commit(model(tmp_path, 5), 5).ref == "ner:4"


def test_a_resident_form_belongs_to_a_base_and_shares_equal_bytes_with_it(store, tmp_path):
    manifest = store.commit(base(tmp_path), 1)
    weights = safetensors(b"\1" * 16)
    with pytest.raises(ModelNotFound):
        store.commit(form(tmp_path, 1, "gone:1", "float32", weights), 1)
    folder = store.commit(form(tmp_path, 1, "minilm:1", "float32", weights), 1)
    assert store.located("minilm", "float32").resident == folder
    assert store.located("minilm").resident is None
    shared = Path(folder, "model.safetensors").stat()
    assert shared.st_ino == (tmp_path / "blobs" / manifest.base_digest).stat().st_ino
    store.remove("minilm")
    store.collect()
    assert not Path(folder).exists()


def form(home: Path, pid: int, ref: str, dtype: str, weights: bytes, **more: bytes) -> Offer:
    """A resident form of this base, as a program offers it."""
    files = {"model.safetensors": weights, **{name.replace("_json", ".json"): data for name, data in more.items()}}
    return offer(home, pid, 2, OfferKind.RESIDENT, ref.partition(":")[0], files, base=ref, dtype=dtype)


def mended(home: Path, pid: int, **changes: object) -> Offer:
    """The base of `base` once more, with another tokenizer beside the same weights."""
    told = base(home, pid)
    Path(told.folder, "tokenizer.json").write_bytes(b'{"mended": true}')
    return replace(told, files=(*told.files, ("tokenizer.json", Part.TOKENIZER)), **changes)


def test_the_same_weights_with_other_files_beside_them_are_another_form(store, tmp_path):
    first, second = store.commit(base(tmp_path), 1), store.commit(mended(tmp_path, 2), 2)
    assert (second.ref, second.base_digest) == ("minilm:2", first.base_digest)
    weights = safetensors(b"\3" * 8)
    one = store.commit(form(tmp_path, 3, first.ref, "bfloat16", weights), 3)
    assert store.located(first.ref, "bfloat16").resident == one
    assert (store.located(second.ref, "bfloat16").resident, store.resident_bytes(second)) == (None, 0)
    two = store.commit(form(tmp_path, 4, second.ref, "bfloat16", weights, tokenizer_json=b"{}"), 4)
    assert (two != one, store.located(second.ref, "bfloat16").resident) == (True, two)
    shown = [Path(folder, "model.safetensors") for folder in (one, two)]
    assert shown[0].samefile(shown[1])  # the converted weights lie on the disk once
    store.remove(first.ref)
    store.collect()
    assert (Path(one).exists(), shown[1].read_bytes()) == (False, weights)


def test_a_form_is_not_linked_to_damaged_bytes_of_another(store, tmp_path):
    first, second = store.commit(base(tmp_path), 1), store.commit(mended(tmp_path, 2), 2)
    weights = safetensors(b"\3" * 8)
    one = Path(store.commit(form(tmp_path, 3, first.ref, "bfloat16", weights), 3), "model.safetensors")
    one.chmod(0o644)
    one.write_bytes(safetensors(b"\4" * 8))
    two = Path(store.commit(form(tmp_path, 4, second.ref, "bfloat16", weights), 4), "model.safetensors")
    assert two.read_bytes() == weights


def test_an_int8_version_is_of_the_base_with_the_same_files(store, tmp_path):
    first, second = store.commit(base(tmp_path), 1), store.commit(mended(tmp_path, 2), 2)
    told = offer(tmp_path, 3, 1, OfferKind.BASE, "minilm", {"evidence.json": b"{}"}, task="embed", dtype="int8")
    made = store.commit(replace(told, like=first.ref), 3)
    assert (store.in_dtype(first.ref, "int8"), store.in_dtype(second.ref, "int8")) == (made.ref, None)
    assert store.in_dtype(made.ref, "") == first.ref


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_forms_named_by_the_weights_alone_are_swept_at_the_start_and_made_again(store, tmp_path, dtype):
    manifest = store.commit(base(tmp_path), 1)
    folder = Path(store.commit(form(tmp_path, 1, manifest.ref, dtype, safetensors(b"\1" * 16)), 1))
    old = folder.with_name(f"{manifest.base_digest[:16]}-{dtype}")  # as homes had them before
    folder.rename(old)
    again = Store(tmp_path)
    assert (old.exists(), again.located("minilm", dtype).resident) == (False, None)
    assert again.commit(form(tmp_path, 2, manifest.ref, dtype, safetensors(b"\1" * 16)), 2) == str(folder)


def test_forms_in_a_dtype_that_no_device_here_uses_are_collected(store, tmp_path):
    manifest = store.commit(base(tmp_path), 1)
    dtypes = ("float32", "bfloat16", "int8", "int8-bfloat16")
    for pid, dtype in enumerate(dtypes, 2):
        store.commit(form(tmp_path, pid, manifest.ref, dtype, safetensors(bytes([pid]) * 4096)), pid)
    assert store.disk_use().reclaimable_bytes == 0
    reclaimable = store.disk_use(("int8",)).reclaimable_bytes
    assert store.collect(("int8",)) == reclaimable > 4096
    for again in (store, Store(tmp_path)):
        left = [dtype for dtype in dtypes if again.located("minilm", dtype).resident]
        assert left == ["float32", "bfloat16", "int8-bfloat16"]


def test_a_resident_form_that_lost_bytes_is_gone_after_a_restart(store, tmp_path):
    store.commit(base(tmp_path), 1)
    folder = store.commit(form(tmp_path, 1, "minilm:1", "bfloat16", safetensors(b"\3" * 8)), 1)
    Path(folder, "model.safetensors").unlink()
    assert store.located("minilm", "bfloat16").resident == folder
    assert Store(tmp_path).located("minilm", "bfloat16").resident is None


def test_garbage_is_counted_as_what_collecting_it_frees(store, tmp_path):
    store.commit(base(tmp_path), 1)
    store.commit(model(tmp_path, 2), 2)
    assert (store.disk_use().reclaimable_bytes, store.collect()) == (0, 0)
    store.remove("ner")
    reclaimable = store.disk_use().reclaimable_bytes
    assert reclaimable == len(safetensors(b"\2" * 8))  # config.json is the base's too
    assert store.collect() == reclaimable
    assert store.collect() == 0
    store.verify("minilm")


def test_damage_is_found_and_mended_by_bringing_the_same_bytes_again(store, tmp_path):
    manifest = store.commit(base(tmp_path), 1)
    path = tmp_path / "blobs" / manifest.base_digest
    path.chmod(0o644)
    path.write_bytes(b"\0" * path.stat().st_size)
    with fails_with(Corrupt, file="model.safetensors"):
        store.verify("minilm")
    with pytest.raises(Corrupt):
        store.file("minilm", "model.safetensors")
    assert store.commit(base(tmp_path, 9), 9) == manifest
    store.verify("minilm")


def test_a_model_that_lost_a_file_says_so_instead_of_being_served(store, tmp_path):
    manifest = store.commit(base(tmp_path), 1)
    (tmp_path / "models/minilm/1/config.json").unlink()
    assert Store(tmp_path).located("minilm").manifest == manifest  # linked again from its blob
    (tmp_path / "models/minilm/1/config.json").unlink()
    (tmp_path / "blobs" / manifest.files[1].digest).unlink()
    with fails_with(Corrupt, model="minilm:1", lost=["config.json"]):
        Store(tmp_path).located("minilm")


def test_names_and_versions_that_are_not_there_are_said_with_what_is_near(store, tmp_path):
    store.commit(base(tmp_path), 1)
    with fails_with(ModelNotFound, name="minilmm", near=["minilm"]):
        store.resolve("minilmm")
    with fails_with(ModelNotFound, name="minilm", version=7, versions=[1]):
        store.resolve("minilm:7")
    with pytest.raises(DatasetNotFound):
        store.dataset("minilm@1")
    with fails_with(NotFound, model="minilm:1", path="report.html", files=...):
        store.file("minilm", "report.html")


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", "", "a\0b", ".tmp-x"])
def test_a_file_name_cannot_leave_its_folder(store, tmp_path, path):
    good = base(tmp_path)
    bad = type(good)(1, good.kind, "minilm", good.folder, (*good.files, (path, Part.OTHER)), good.draft)
    with fails_with(BadInput, path=path):
        store.commit(bad, 1)
    assert store.manifests() == []


def test_an_offer_from_outside_the_scratch_or_through_a_link_is_refused(store, tmp_path):
    good = base(tmp_path)
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    with fails_with(BadInput, folder=str(outside)):
        store.commit(type(good)(1, good.kind, "minilm", str(outside), good.files, good.draft), 1)
    (tmp_path / "scratch/1/offer-1/extra").symlink_to("/etc/hostname")
    with pytest.raises(BadInput):
        store.commit(type(good)(1, good.kind, "minilm", good.folder, (*good.files, ("extra", Part.OTHER))), 1)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "x.pkl"])
def test_pickled_weights_are_refused_by_name_and_by_content(store, tmp_path, name):
    with fails_with(UnsafeWeights, path=name):
        store.commit(offer(tmp_path, 1, 1, OfferKind.BASE, "b", {name: b"x"}), 1)
    with pytest.raises(UnsafeWeights):
        store.commit(offer(tmp_path, 1, 1, OfferKind.BASE, "b", {"model.safetensors": b"\x80\x04\x95abc" * 9}), 1)


def test_one_name_is_not_both_a_base_and_a_model(store, tmp_path):
    store.commit(base(tmp_path), 1)
    with fails_with(Conflict, name="minilm", has=...):
        store.commit(model(tmp_path, 2, name="minilm"), 2)


def test_what_a_child_writes_into_its_scratch_later_does_not_reach_the_store(store, tmp_path):
    made = base(tmp_path)
    manifest = store.commit(made, 1)
    assert not (tmp_path / "scratch/1/offer-1/model.safetensors").exists()
    link = tmp_path / "scratch/1/offer-1/model.safetensors"  # as a kill in the last step of a commit leaves it
    link.hardlink_to(tmp_path / "blobs" / manifest.base_digest)
    Store(tmp_path)
    assert not link.exists()


def test_a_manifest_that_cannot_be_read_is_named_and_the_rest_is_there(store, tmp_path):
    store.commit(base(tmp_path), 1)
    store.commit(model(tmp_path, 2), 2)
    page = tmp_path / "names/ner/1.json"
    page.write_bytes(page.read_bytes()[:50])
    again = Store(tmp_path)
    assert (again.damaged, [m.ref for m in again.manifests()]) == ((str(page),), ["minilm:1"])
    assert again.commit(model(tmp_path, 3), 3).ref == "ner:2"


def test_readers_always_see_a_whole_state_while_others_write(store, tmp_path):
    store.commit(base(tmp_path), 1)
    failures, done = [], threading.Event()

    def read():
        while not done.is_set():
            failures.extend(m for m in store.manifests() if m.base and store.resolve(m.base).ref != m.base)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(
            target=lambda pid=pid: [store.commit(model(tmp_path, pid, name=f"m{pid}"), pid), store.collect()]
        )
        for pid in range(10, 16)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert (failures, len(store.manifests())) == ([], 7)
    for manifest in store.manifests():
        store.verify(manifest.ref)


def test_a_version_may_have_the_files_of_another_and_a_dtype_of_its_own(store, tmp_path):
    plain = store.commit(base(tmp_path), 1)
    told = offer(tmp_path, 2, 1, OfferKind.BASE, "minilm", {"evidence.json": b"{}"}, task="embed", dtype="int8")
    made = store.commit(replace(told, like=plain.ref), 2)
    assert (made.ref, made.base_digest, made.dtype) == ("minilm:2", plain.base_digest, "int8")
    assert {file.path for file in made.files} == {file.path for file in plain.files} | {"evidence.json"}
    assert (store.in_dtype("minilm:1", "int8"), store.in_dtype("minilm:1", "int4")) == ("minilm:2", None)
    assert store.resolve("minilm") == plain
    weights = Path(store.located("minilm:2").folder, "model.safetensors")
    assert weights.samefile(Path(store.located("minilm:1").folder, "model.safetensors"))
    assert store.commit(model(tmp_path, 3, on="minilm:2"), 3).dtype == "int8"
    assert store.commit(base(tmp_path, 4), 4) == plain
    store.remove("ner")
    store.remove("minilm:1")
    store.collect()
    assert Store(tmp_path).verify("minilm:2") == made


def test_the_form_of_a_version_is_the_one_in_its_dtype(store, tmp_path):
    plain = store.commit(base(tmp_path), 1)
    told = offer(tmp_path, 2, 1, OfferKind.BASE, "minilm", {"evidence.json": b"{}"}, task="embed", dtype="int8")
    made = store.commit(replace(told, like=plain.ref), 2)
    for pid, dtype, size in ((3, "float32", 64), (4, "int8", 16)):
        store.commit(form(tmp_path, pid, plain.ref, dtype, safetensors(b"\1" * size)), pid)
    sizes = [store.resident_bytes(one) for one in (plain, made)]
    assert sizes[0] == sizes[1] + 48
    assert store.located(made.ref, "int8-bfloat16").resident is None  # it holds something else
    store.commit(form(tmp_path, 5, plain.ref, "int8-bfloat16", safetensors(b"\1" * 8)), 5)
    assert str(store.located(made.ref, "int8-bfloat16").resident).endswith("-int8-bfloat16")
    assert str(store.located(made.ref, "int8").resident).endswith("-int8")
