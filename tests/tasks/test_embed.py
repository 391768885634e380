"""embed: a text that is too long is refused, or cut where the call says so."""

from __future__ import annotations

from typing import Any

import pytest

from llmos.abi.error import BadInput, TooLong
from llmos.tasks import Settings, with_params
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import CLOSE, OPEN, PieceTokenizer

LIMIT = 8
LONG = "one two three four five six seven eight nine ten"
CUTTING = Settings((), {"truncate": True}, LIMIT)


def ids(text: str, params: dict[str, Any], settings: Settings = Settings((), {}, LIMIT)) -> list[int]:
    embed = with_params("embed", params)
    return embed.render([embed.check(text)], PieceTokenizer(), settings)[0].ids


def whole(text: str) -> list[int]:
    return PieceTokenizer().encode([text])[0].ids


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ({"truncate": True}, LIMIT),
        ({"truncate_prompt_tokens": -1}, LIMIT),
        ({"truncate_prompt_tokens": LIMIT}, LIMIT),
        ({"truncate": True, "truncate_prompt_tokens": 5}, 5),
        ({"truncate_prompt_tokens": 2}, 2),
        ({"truncate_prompt_tokens": 1}, 1),
    ],
)
def test_a_long_text_keeps_its_start_and_its_closing_token(params: dict[str, Any], size: int) -> None:
    found = ids(LONG, params)
    assert len(found) == size
    assert found == [*whole(LONG)[: size - 1], CLOSE]
    assert ids("hi", params | {"truncate_prompt_tokens": -1}) == whole("hi")


def test_unless_the_call_says_so_a_model_does_as_it_was_trained() -> None:
    for params in ({}, {"truncate": False}, {"truncate": None, "truncate_prompt_tokens": None}):
        with fails_with(TooLong, limit=8):
            ids(LONG, params)
    assert len(ids(LONG, {}, CUTTING)) == LIMIT
    with pytest.raises(TooLong):
        ids(LONG, {"truncate": False}, CUTTING)


@pytest.mark.parametrize(
    ("params", "key"),
    [
        ({"truncate": "END"}, "truncate"),
        ({"truncate": 1}, "truncate"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": True}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": LIMIT + 1}, "truncate_prompt_tokens"),
        ({"truncate": False, "truncate_prompt_tokens": 3}, "truncate"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(params: dict[str, Any], key: str) -> None:
    with pytest.raises(BadInput) as refused:
        ids("hi", params)
    assert refused.value.detail["key"] == key


def test_what_opens_a_text_stays() -> None:
    assert ids(LONG, {"truncate": True})[0] == OPEN
