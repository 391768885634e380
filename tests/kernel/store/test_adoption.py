"""Adoption of another home's versions: what is refused, and that nothing is written then."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from llmos.abi.error import BadInput, Conflict, Corrupt, LlmosError
from llmos.abi.model import Part
from llmos.kernel.store.adoption import Adoption
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model


@pytest.fixture
def origin(tmp_path):
    store = Store(tmp_path / "origin")
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=901)
    return store


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def blobs_of(store):
    return lambda digest: (store.home / "blobs" / digest).open("rb")


def test_a_base_comes_before_what_stands_on_it(origin, home):
    mood, tiny = origin.manifests()
    for order in ([mood], [mood, tiny]):
        with pytest.raises(Conflict):
            Adoption(home).adopt(order, {}, blobs_of(origin))
    assert list((home / "names").iterdir()) == []
    done = Adoption(home).adopt([tiny, mood], {"tiny": (1,)}, blobs_of(origin))
    assert (done.added, done.promoted) == (("tiny:1", "mood:1"), ("tiny:1",))
    assert Store(home).manifests() == origin.manifests()


@pytest.mark.parametrize("content", [b"", b"?" * 8, b"?" * 4096])
def test_bytes_that_are_not_the_manifests_are_refused(origin, home, content):
    _, tiny = origin.manifests()
    with pytest.raises(Corrupt):
        Adoption(home).adopt([tiny], {}, lambda digest: io.BytesIO(content))
    assert (list((home / "names").iterdir()), list((home / "blobs").iterdir())) == ([], [])


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a//b", ".tmp-x", "a\\b", ""])
def test_a_path_out_of_the_version_is_refused(origin, home, path):
    _, tiny = origin.manifests()
    other = replace(tiny, files=(replace(tiny.files[0], path=path),))
    with pytest.raises(BadInput):
        Adoption(home).adopt([other], {}, blobs_of(origin))


@pytest.mark.parametrize("change", [{"name": "../up"}, {"name": "A"}, {"version": 0}, {"version": -1}])
def test_a_name_or_number_that_is_none_is_refused(origin, home, change):
    _, tiny = origin.manifests()
    with pytest.raises(BadInput):
        Adoption(home).adopt([replace(tiny, **change)], {}, blobs_of(origin))


def test_a_digest_that_is_a_path_is_refused(origin, home):
    _, tiny = origin.manifests()
    other = replace(tiny, files=(replace(tiny.files[0], digest="../../x"),))
    with pytest.raises(BadInput):
        Adoption(home).adopt([other], {}, blobs_of(origin))


def test_pickled_weights_are_refused(origin, home):
    _, tiny = origin.manifests()
    weights = next(file for file in tiny.files if file.part is Part.WEIGHTS)
    other = replace(tiny, files=(replace(weights, path="model.bin"),))
    with pytest.raises(LlmosError):
        Adoption(home).adopt([other], {}, blobs_of(origin))
    assert list((home / "names").iterdir()) == []


def test_a_damaged_blob_that_is_here_is_said_not_used(origin, home):
    _, tiny = origin.manifests()
    Adoption(home).adopt([tiny], {}, blobs_of(origin))
    blob = home / "blobs" / tiny.files[0].digest
    blob.chmod(0o600)
    blob.write_bytes(b"?" * tiny.files[0].size_bytes)
    with pytest.raises(Corrupt):
        Adoption(home).adopt([replace(tiny, name="twin")], {}, blobs_of(origin))


def test_an_unreadable_manifest_of_the_same_number_is_left_alone(origin, home):
    _, tiny = origin.manifests()
    Adoption(home).adopt([tiny], {}, blobs_of(origin))
    page = home / "names" / "tiny" / "1.json"
    page.write_text("{")
    with pytest.raises(Conflict):
        Adoption(home).adopt([tiny], {}, blobs_of(origin))
    assert page.read_text() == "{"
