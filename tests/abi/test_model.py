"""Names and references: what may name a model, and how `name:version` is read."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.model import NAME, check_name, split_dataset_ref, split_ref
from llmos.testing.errors import fails_with

BEGINS = string.ascii_lowercase + string.digits


@given(st.sampled_from(BEGINS), st.text(BEGINS + "._-", max_size=95), st.integers(1, 10**6))
def test_a_reference_splits_into_what_it_was_made_of(first, rest, version):
    name = first + rest
    assert NAME.fullmatch(name)
    assert split_ref(name) == (name, None)
    assert split_ref(f"{name}:{version}") == (name, version)


@pytest.mark.parametrize(
    "text", ["", ":1", "a:", "a:0", "a:-1", "a:x", "a:1:2", "a:01", "a:²", "a:٣", "A", "-a", "a" * 97]
)
def test_anything_else_is_refused_by_its_reference_or_its_name(text):
    with pytest.raises(BadInput) as refused:
        split_ref(text)
    assert refused.value.detail in ({"reference": repr(text)}, {"name": repr(text.partition(":")[0])})


def test_a_reference_of_any_length_is_refused_in_a_short_sentence():
    for text in ("a:" + "9" * 5000, "a" * 5000):
        with pytest.raises(BadInput) as refused:
            split_ref(text)
        assert len(refused.value.message) < 300
    with fails_with(BadInput, reference=...):
        split_dataset_ref("a@" + "9" * 5000)


def test_a_name_cannot_leave_its_folder():
    for name in ("..", ".", "a/../b", ".hidden"):
        with pytest.raises(BadInput):
            check_name(name)
