"""Calls that the tokenizer answers alone: whole prompts however long, special tokens, and what is no text."""

from __future__ import annotations

import pytest

from llmos.abi.call import Call, Operation
from llmos.abi.error import BadInput, TooLong
from llmos.engines.intake import whole
from llmos.engines.tokenization import MOST_CHARS, ModelTokenizer, tokenize_in_steps
from llmos.tasks import Settings, TokenPiece
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import CLOSE, OPEN, PieceTokenizer

MODEL = ModelTokenizer(PieceTokenizer(1 << 20), Settings(options={"max_tokens": 4, "truncate": True}, max_tokens=8))


def ask(operation, *inputs, task="generate", model=MODEL, **params):
    told = []
    put = whole(tokenize_in_steps(model, Call(7, "talk:1", task, inputs, params, operation=operation), told.append))
    assert told == []  # nothing is said before the call is in hand
    put()
    (chunk,) = told
    assert (chunk.call_id, chunk.is_last, chunk.tokens.prompt) == (7, True, 0)
    return list(chunk.outputs)


def test_a_prompt_is_counted_whole_though_the_model_would_cut_it():
    (one,) = ask(Operation.RENDER, "abcd " * 100)
    assert (len(one["ids"]), one["limit"]) == (102, 8)
    assert "strings" not in one


def test_a_conversation_is_counted_with_its_template():
    (one,) = ask(Operation.RENDER, {"messages": [{"role": "user", "content": "abcd"}]}, task="chat", strings=True)
    assert len(one["ids"]) == len(one["strings"]) == len(MODEL.tokenizer.encode(["<user> abcd <assistant>"])[0].ids) - 2


def test_what_the_tokenizer_adds_has_no_place_and_can_be_left_out():
    (one,) = ask(Operation.TOKENIZE, "abcdef g")
    assert [token["id"] for token in one["tokens"]][:: len(one["tokens"]) - 1] == [OPEN, CLOSE]
    assert [(token["start"], token["special"]) for token in one["tokens"]] == [
        (None, True),
        (0, False),
        (4, False),
        (7, False),
        (None, True),
    ]
    (bare,) = ask(Operation.TOKENIZE, "abcdef g", special=False)
    assert bare["tokens"] == one["tokens"][1:-1]


def test_several_inputs_come_in_their_order():
    texts = [f"a{i}" for i in range(200)]
    made = ask(Operation.TOKENIZE, *texts, special=False)
    assert ["".join(token["text"] for token in one["tokens"]) for one in made] == texts
    ids = [[token["id"] for token in one["tokens"]] for one in made]
    assert [one["text"] for one in ask(Operation.DETOKENIZE, *ids)] == texts


@pytest.mark.parametrize(
    ("operation", "given", "kind"),
    [
        (Operation.TOKENIZE, 3, BadInput),
        (Operation.TOKENIZE, "\ud800", BadInput),
        (Operation.TOKENIZE, "a" * (MOST_CHARS + 1), TooLong),
        (Operation.DETOKENIZE, "a", BadInput),
        (Operation.DETOKENIZE, [], BadInput),
        (Operation.DETOKENIZE, [1, True], BadInput),
        (Operation.DETOKENIZE, [1, 1 << 20], BadInput),
        (Operation.DETOKENIZE, [-1], BadInput),
    ],
)
def test_what_is_no_text_and_no_token_is_refused(operation, given, kind):
    with fails_with(kind):
        ask(operation, given)


def test_a_call_without_inputs_is_refused():
    for operation in (Operation.RENDER, Operation.TOKENIZE, Operation.DETOKENIZE):
        with fails_with(BadInput, reason="no_inputs"):
            ask(operation)


def test_a_tokenizer_is_described_with_what_its_model_takes():
    for inputs in ((), ("x",)):
        (card,) = ask(Operation.DESCRIBE, *inputs)
        assert card == {"tokenizer_class": "PieceTokenizer", "eos_token": f"<{CLOSE}>", "model_max_length": 8}


class Naming(PieceTokenizer):
    """Its control token `<1>` has a name, which is text to all but its parsing twin."""

    def parsing(self):
        return Parsing(self.size)


class Parsing(Naming):
    def pieces(self, text, *, special=True):
        return [TokenPiece(CLOSE, text, True)] if text == "<1>" else super().pieces(text, special=special)


@pytest.mark.parametrize(
    ("text", "names", "is_named"),
    [("<1>", True, True), ("<1>", None, False), ("<1> ", True, False), ("a<1>", True, False), ("", True, False)],
)
def test_a_control_token_is_looked_up_by_its_whole_name_only_if_asked(text, names, is_named):
    model = ModelTokenizer(Naming(1 << 20), MODEL.settings)
    (one,) = ask(Operation.TOKENIZE, text, model=model, special=False, names=names)
    assert ([token["id"] for token in one["tokens"]] == [CLOSE]) is is_named
