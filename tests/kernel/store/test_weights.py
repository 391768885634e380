"""Weights files: whatever bytes come, the answer is sound, a sentence, or a refusal."""

import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stocking import safetensors

from llmos.abi.error import BadInput, UnsafeWeights
from llmos.kernel.store.weights import check_weights
from llmos.testing.errors import fails_with


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("weights") / "model.safetensors"


def check(path, data, *, allow_gguf=False):
    path.write_bytes(data)
    check_weights(path, "model.safetensors", allow_gguf=allow_gguf)


@given(st.binary(max_size=200))
def test_a_sound_file_passes(path, values):
    check(path, safetensors(values))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_a_sentence(path, data):
    with pytest.raises(BadInput):
        check(path, data)


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_or_cut_file_never_ends_in_another_error(path, at, byte):
    data = bytearray(safetensors(b"\5" * 32))
    data[at % len(data)] = byte
    for variant in (bytes(data), bytes(data[: at % len(data)])):
        with suppress(BadInput):
            check(path, variant)


@pytest.mark.parametrize(
    "entry",
    [
        {"data_offsets": [0, 17]},
        {"data_offsets": [1, 16]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [-16, 0]},
        {"shape": [17]},
        {"shape": [-16]},
        {"shape": [2**62, 2**62]},
        {"dtype": "F32"},
        {"dtype": "PICKLE"},
    ],
    ids=str,
)
def test_tensors_that_do_not_lie_where_they_say_are_refused(path, entry):
    with fails_with(BadInput, path=..., format="safetensors"):
        check(path, safetensors(b"\0" * 16, **entry))


def test_a_header_longer_than_the_file_is_refused_without_reading_it(path):
    with fails_with(BadInput, format="safetensors", header_bytes=2**63):
        check(path, struct.pack("<Q", 2**63) + b"{}")


def test_overlapping_tensors_are_refused(path):
    one = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    header = json.dumps({"a": one, "b": one}).encode()
    with pytest.raises(BadInput):
        check(path, struct.pack("<Q", len(header)) + header + b"\0" * 4)


@pytest.mark.parametrize("start", [b"\x80\x04\x95", b"\x80\x02}q", b"PK\x03\x04"])
def test_pickles_under_a_good_name_are_refused(path, start):
    with pytest.raises(UnsafeWeights):
        check(path, start + b"\0" * 100)


def test_gguf_is_for_bases_alone(path):
    data = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1) + b"\0" * 32
    check(path, data, allow_gguf=True)
    with fails_with(BadInput, format="gguf", reason="only_a_base"):
        check(path, data)
    with pytest.raises(BadInput):
        check(path, struct.pack("<4sIQQ", b"GGUF", 3, 2**40, 1), allow_gguf=True)
