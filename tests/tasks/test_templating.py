"""What a call hands to the chat template: bounded, and nothing that the template has from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.tasks import Settings, with_params
from llmos.tasks.templating import MOST_BYTES, MOST_LEVELS, MOST_NAMES, OWNED, PARAM, for_template
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer

NAMES = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)
LEAVES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=9)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


class Noting(PieceTokenizer):
    """It notes what the template was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[object] = []

    def chat(self, messages, tools=(), given=None):
        self.handed.append(given)
        return super().chat(messages, tools, given)


def test_a_call_hands_its_values_over_and_training_none() -> None:
    tokenizer, asked = Noting(), [{"role": "user", "content": "hi"}]
    chat = with_params("chat", {PARAM: {"enable_thinking": False}})
    chat.render([chat.check(asked)], tokenizer, Settings())
    assert tokenizer.handed == [{"enable_thinking": False}]
    tokenizer.handed.clear()
    chat.teach(chat.check(asked), "yes", tokenizer, Settings())
    assert tokenizer.handed
    assert not any(tokenizer.handed)


@pytest.mark.parametrize("name", [*sorted(OWNED), "bos_token", "eos_token", "_x", "llmos_budget"])
def test_what_the_template_has_from_the_model_is_not_for_a_call_to_set(name: str) -> None:
    with fails_with(BadInput, key=f"{PARAM}.{name}"):
        for_template({PARAM: {"thinking": True, name: 1}})


def nested(levels: int) -> object:
    return 1 if not levels else [nested(levels - 1)]


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ([], {"value": "[]"}),
        ("yes", {"value": "'yes'"}),
        ({"a b": 1}, {"value": "'a b'"}),
        ({"": 1}, {"value": "''"}),
        ({"if": 1}, {"value": "'if'"}),
        ({"x" * 65: 1}, {"value": repr("x" * 65)}),
        ({f"x{i}": i for i in range(MOST_NAMES + 1)}, {"limit": MOST_NAMES}),
        ({"x": "a" * MOST_BYTES}, {"limit": MOST_BYTES}),
        ({"x": nested(MOST_LEVELS)}, {"limit": MOST_LEVELS}),
        ({"x": nested(500)}, {"limit": MOST_LEVELS}),
    ],
)
def test_what_is_no_name_or_too_much_is_refused(value: object, detail: dict[str, object]) -> None:
    with fails_with(BadInput, key=PARAM, **detail):
        for_template({PARAM: value})


@pytest.mark.slow
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_whatever_is_let_through_is_what_was_sent(value: Any) -> None:
    try:
        kept = for_template({PARAM: value})
    except BadInput as error:
        kept, value = error.detail["key"].partition(".")[0], PARAM
    assert kept == value


def test_nothing_said_is_nothing_handed_over() -> None:
    assert for_template({}) == for_template({PARAM: None}) == for_template({PARAM: {}}) == {}
    assert for_template({PARAM: {"x": nested(MOST_LEVELS - 1)}})
