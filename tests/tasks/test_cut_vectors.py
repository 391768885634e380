"""Vectors that may be cut: the lengths a base was trained for are given, of length one; others are refused."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks import Rendered, Settings
from llmos.tasks.embed import TASK

CUTTABLE = Settings(options={"matryoshka": [2, 3, 4]})
NUMBERS = st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4).filter(lambda one: abs(one[0]) > 1e-3)


def vector(numbers: list[float], settings: Settings, **params: Json) -> list[float]:
    parsed = TASK.with_params(params).parse(struct.pack("<4f", *numbers), Rendered([1]), settings, params)
    assert parsed["dim"] == len(parsed["data"]) // 4
    return list(struct.unpack(f"<{parsed['dim']}f", parsed["data"]))


@given(NUMBERS, st.sampled_from([2, 3]))
def test_a_cut_vector_points_where_its_first_numbers_do_and_has_length_one(numbers: list[float], length: int) -> None:
    cut = vector(numbers, CUTTABLE, dimensions=length)
    size = math.sqrt(sum(one * one for one in numbers[:length]))
    assert cut == pytest.approx([one / size for one in numbers[:length]], abs=1e-6)


def test_where_vectors_are_not_to_be_of_length_one_they_are_only_cut() -> None:
    assert vector([3.0, 4.0, 5.0, 6.0], CUTTABLE, dimensions=2, normalize=False) == [3.0, 4.0]


@pytest.mark.parametrize("params", [{}, {"dimensions": 4}])
def test_the_whole_vector_is_untouched(params: dict[str, Json]) -> None:
    assert vector([3.0, 4.0, 5.0, 6.0], CUTTABLE, **params) == [3.0, 4.0, 5.0, 6.0]
    assert vector([3.0, 4.0, 5.0, 6.0], Settings(), **params) == [3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize(("settings", "length"), [(CUTTABLE, 1), (CUTTABLE, 5), (Settings(), 2)])
def test_lengths_that_were_not_trained_are_refused(settings: Settings, length: int) -> None:
    with pytest.raises(BadInput) as raised:
        vector([3.0, 4.0, 5.0, 6.0], settings, dimensions=length)
    assert raised.value.detail["key"] == "dimensions"


@pytest.mark.parametrize("length", [0, -1, 1.5, "2", True])
def test_what_is_no_length_is_refused(length: Json) -> None:
    with pytest.raises(BadInput):
        TASK.with_params({"dimensions": length})
