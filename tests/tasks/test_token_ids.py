"""Token ids as an input: whole numbers of the model's vocabulary, or a refusal that names the first other one."""

import pytest

from llmos.abi.error import BadInput
from llmos.tasks.token_ids import are_ids, check_ids
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer

KNOWN = PieceTokenizer(100)


def test_ids_of_the_vocabulary_are_taken_as_they_are():
    assert check_ids((0, 5, 99), KNOWN) == [0, 5, 99]


@pytest.mark.parametrize(("given", "at", "token"), [([1, 100], 1, 100), ([-1], 0, -1), ([3, 4, 1 << 40], 2, 1 << 40)])
def test_an_id_beyond_the_vocabulary_is_named(given, at, token):
    with fails_with(BadInput, at_token=at, token=token):
        check_ids(given, KNOWN)


@pytest.mark.parametrize("given", ["a", [], [1, "a"], [True], [1.0], None, [[1]]])
def test_what_is_no_list_of_whole_numbers_is_no_ids(given):
    assert not are_ids(given)
    with fails_with(BadInput):
        check_ids(given, KNOWN)
