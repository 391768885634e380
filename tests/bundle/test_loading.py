"""Loading a bundle's models: they are what they were, damage is refused, and nothing of a home is overwritten."""

from __future__ import annotations

import json
import shutil

import pytest
from bundle_parts import stocked_home
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import killed_along_the_way

from llmos.abi.error import AlreadyRunning, BadInput, Conflict, Corrupt, LlmosError, ModelNotFound, NotFound
from llmos.bundle.loading import load
from llmos.bundle.making import make
from llmos.daemon import holding_home
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model


@pytest.fixture
def home(tmp_path):
    return stocked_home(tmp_path / "home")


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["out", "out.tar"])
def test_models_are_in_the_new_home_as_they_were(tmp_path, home, name):
    made = make(tmp_path / name, home)
    assert made.manifest.models == ("tiny:1", "mood:2", "other:1")
    done = load(tmp_path / name, tmp_path / "new")
    assert done.adopted.added == made.manifest.models
    before, after = Store(home), Store(tmp_path / "new")
    assert after.manifests() == [one for one in before.manifests() if one.ref != "mood:1"]
    assert after.examine().damages == ()
    assert (after.resolve("mood").ref, after.resolve("tiny").ref) == ("mood:2", "tiny:1")
    assert b'"what":"unbundle"' in (tmp_path / "new" / "audit" / "000000000001.log").read_bytes()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_named_versions_come_with_their_bases_and_nothing_else(tmp_path, home):
    made = make(tmp_path / "out", home, ["mood:1"])
    assert made.manifest.models == ("tiny:1", "mood:1")
    load(tmp_path / "out", tmp_path / "new")
    assert Store(tmp_path / "new").resolve("mood").ref == "mood:1"
    assert not (tmp_path / "new" / "row.key").exists()
    with pytest.raises(ModelNotFound):
        make(tmp_path / "more", home, ["moot"])
    with pytest.raises(NotFound):
        make(tmp_path / "more", tmp_path / "nothing")
    with pytest.raises(BadInput):
        make(tmp_path / "more", home, [])
    assert not (tmp_path / "more").exists()


def test_a_home_with_other_models_keeps_them_and_its_own_promotions(tmp_path, home):
    new = tmp_path / "new"
    store = Store(new)
    add_base(store, "mine", floats=4, pid=1)
    make(tmp_path / "first", home, ["mood:1"])
    make(tmp_path / "second", home, ["mood:2", "other"])
    load(tmp_path / "first", new)
    done = load(tmp_path / "second", new).adopted
    assert (done.added, done.there, done.kept) == (("mood:2", "other:1"), ("tiny:1",), ("mood:2",))
    assert load(tmp_path / "second", new).adopted.added == ()
    after = Store(new)
    assert {one.ref for one in after.manifests()} == {"mine:1", "tiny:1", "mood:1", "mood:2", "other:1"}
    assert (after.promoted("mood"), after.promoted("mine")) == (1, 1)
    assert add_model(after, "mood", "tiny:1", pid=903).version == 3


def test_a_number_that_means_another_version_is_refused_before_anything_is_written(tmp_path, home):
    make(tmp_path / "out", home)
    new = tmp_path / "new"
    store = Store(new)
    add_base(store, "base", pid=5)
    for pid in (6, 7):
        add_model(store, "mood", "base:1", pid=pid)
    before = files_of(new)
    with pytest.raises(Conflict):
        load(tmp_path / "out", new)
    assert {path: data for path, data in files_of(new).items() if path.name != "daemon.lock"} == before
    store.remove("mood:2")
    with pytest.raises(Conflict):
        load(tmp_path / "out", new)


def test_a_version_that_was_removed_comes_back_with_its_number(tmp_path, home):
    make(tmp_path / "out", home)
    store = Store(home)
    store.remove("mood")
    store.collect()
    assert load(tmp_path / "out", home).adopted.added == ("mood:2",)
    assert Store(home).resolve("mood").ref == "mood:2"
    assert add_model(Store(home), "mood", "tiny:1", pid=903).version == 3


def test_a_home_whose_daemon_runs_is_left_alone(tmp_path, home):
    make(tmp_path / "out", home)
    with holding_home(home), pytest.raises(AlreadyRunning):
        load(tmp_path / "out", home)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(NotFound):
        load(tmp_path / "nothing", tmp_path / "new")
    with pytest.raises(BadInput):
        load(tmp_path, tmp_path / "new")
    (tmp_path / "half.tar").write_bytes(b"?" * 700)
    with pytest.raises(Corrupt):
        load(tmp_path / "half.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle, and where each example has its copy."""
    folder = tmp_path_factory.mktemp("made")
    make(folder / "out", stocked_home(folder / "home"))
    return folder


@settings(max_examples=60, deadline=None)
@given(which=st.integers(0, 99), at=st.integers(0, 9999), flip=st.integers(0, 255))
def test_every_changed_byte_and_lost_file_is_found_and_nothing_is_written(made, which, at, flip):
    shutil.rmtree(made / "copy", ignore_errors=True)
    shutil.copytree(made / "out", made / "copy")
    paths = sorted(path for path in (made / "copy").rglob("*") if path.is_file() and path.name != "install.sh")
    path = paths[which % len(paths)]
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= flip
    path.write_bytes(content) if flip else path.unlink()
    with pytest.raises(LlmosError):
        load(made / "copy", made / "new")
    assert not (made / "new").exists()


def test_a_bundle_of_a_later_llmos_or_home_is_refused(tmp_path, home):
    make(tmp_path / "out", home)
    page = tmp_path / "out" / "manifest.json"
    page.write_text(json.dumps({**json.loads(page.read_text()), "form": 99}))
    with pytest.raises(Conflict):
        load(tmp_path / "out", tmp_path / "new")


@pytest.mark.slow
def test_a_load_that_is_killed_leaves_whole_versions_and_is_repeated(tmp_path, home):
    make(tmp_path / "out", home)
    new = tmp_path / "new"
    for _ in killed_along_the_way(lambda: load(tmp_path / "out", new)):
        if (new / "names").is_dir():
            assert Store(new).examine().damages == ()
    assert {one.ref for one in Store(new).manifests()} == {"tiny:1", "mood:2", "other:1"}
    assert Store(new).resolve("mood").ref == "mood:2"
