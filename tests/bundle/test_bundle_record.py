"""What a bundle says of itself: it and its sums agree, and its paths stay inside."""

from __future__ import annotations

import msgspec
import pytest

from llmos.abi.error import Conflict, Corrupt
from llmos.bundle.record import FORM, BundleFile, BundleManifest, BundleTarget, decode_manifest, encode_sums

FILE = BundleFile("wheels/a-1-py3-none-any.whl", "a" * 64, 3)


def encoded(*files, form=FORM):
    target = BundleTarget("cpython-3.11", "linux-x86_64", "2.28")
    manifest = BundleManifest(form, "1.0", 1, 5.0, target, ("mood:1",), {"mood": (1,)}, files)
    data = msgspec.json.encode(manifest)
    return manifest, data, encode_sums(files, data)


def test_a_manifest_is_read_as_it_was_written():
    manifest, data, sums = encoded(FILE)
    assert decode_manifest(data, sums, "here") == manifest
    assert sums.splitlines()[0] == f"{'a' * 64}  wheels/a-1-py3-none-any.whl".encode()


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "a//b", "a\nb", "./a"])
def test_a_path_out_of_the_bundle_is_refused(path):
    _, data, sums = encoded(BundleFile(path, "a" * 64, 1))
    with pytest.raises(Corrupt):
        decode_manifest(data, sums, "here")


def test_sums_that_are_not_of_this_manifest_are_refused():
    _, data, sums = encoded(FILE)
    for other in (b"", sums[:-1], sums + sums, sums.replace(b"\n", b"\r"), sums.replace(b"aa", b"ab", 1)):
        with pytest.raises(Corrupt):
            decode_manifest(data, other, "here")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"form": "one"}', b"\xff"])
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(Corrupt):
        decode_manifest(data, b"", "here")


def test_a_later_form_is_a_conflict_whatever_else_it_says():
    _, data, sums = encoded(FILE, form=FORM + 1)
    with pytest.raises(Conflict):
        decode_manifest(data, sums, "here")
