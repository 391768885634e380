"""The tokenizer: whole texts in, whole texts out, characters never split on the way."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.testing import tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="["), max_size=30)  # [CLS] is no text


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return FastTokenizer(tiny.write(tmp_path_factory.mktemp("t") / "llama", "llama"))


@pytest.fixture(scope="module")
def closing(tmp_path_factory):
    return FastTokenizer(tiny.write(tmp_path_factory.mktemp("t") / "bert", "bert"))


@given(text=texts)
def test_a_text_comes_back_from_its_tokens(tokenizer, text):
    (encoded,) = tokenizer.encode([text], special=False)
    assert tokenizer.decode(encoded.ids) == text


@given(text=texts)
def test_pieces_of_a_stream_are_whole_characters_that_add_up(tokenizer, text):
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokenizer.encode([text], special=False)[0].ids]
    assert "".join(pieces) + stream.flush() == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_half_a_character_is_said_only_when_nothing_more_comes(tokenizer):
    stream = tokenizer.stream()
    assert stream.push(tokenizer.encode(["é"], special=False)[0].ids[0]) == ""
    assert stream.flush() == "\N{REPLACEMENT CHARACTER}"


def test_words_know_their_tokens(closing):
    (encoded,) = closing.encode_words([["ab", "c"]])
    assert encoded.words == [None, 0, 0, 1, 1, None]  # byte-level: the space before c is c's
    assert len(encoded.ids) == len(encoded.words)


def test_words_and_text_become_the_same_tokens(closing):
    assert closing.encode_words([["ab", "c"]])[0].ids == closing.encode(["ab c"])[0].ids


def test_nothing_is_cut_or_padded(closing):
    assert [len(one.ids) for one in closing.encode(["x" * 1000, "y"])] == [1002, 3]


def test_special_tokens_are_left_out_on_request(closing):
    assert len(closing.encode(["abc"], special=False)[0].ids) == 3


def test_a_conversation_goes_through_the_template(tokenizer):
    assert tokenizer.chat([{"role": "user", "content": "hi"}]) == "<user>hi<assistant>"


def test_a_model_without_template_does_not_chat(closing):
    with fails_with(BadInput, lacks="chat_template"):
        closing.chat([{"role": "user", "content": "hi"}])


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with fails_with(BadInput, lacks="tokenizer.json"):
        FastTokenizer(tmp_path)


def test_a_template_reads_what_a_call_hands_to_it(tmp_path):
    folder = tiny.write(tmp_path / "llama", "llama")
    template = "{{ messages[0].content }}{% if loud %}!{{ loud + 1 }}{% endif %}{{ eos_token }}"
    (folder / "chat_template.jinja").write_text(template)
    asked = [{"role": "user", "content": "hi"}]
    tokenizer = FastTokenizer(folder)
    plain = tokenizer.chat(asked)
    assert tokenizer.chat(asked, (), {"loud": 1}) == plain.replace("hi", "hi!2")
    assert tokenizer.chat(asked, (), {"eos_token": "not for a call"}) == plain
    with fails_with(BadInput, model=..., reason="refused"):
        tokenizer.chat(asked, (), {"loud": ["not", "a", "number"]})


def test_no_control_token_comes_of_what_a_call_hands_to_the_template(tmp_path):
    folder = tiny.write(tmp_path / "llama", "llama")
    (folder / "chat_template.jinja").write_text("{{ loud }}{{ messages[0].content }}{{ eos_token }}")
    tokenizer = FastTokenizer(folder)
    plain = tokenizer.encode([tokenizer.chat([{"role": "user", "content": "hi"}])], special=False)[0].ids
    name, end = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"], plain[-1]
    assert end == tokenizer.end_id
    text = tokenizer.chat([{"role": "user", "content": "hi"}], (), {"loud": name})
    assert tokenizer.encode([text], special=False)[0].ids.count(end) == 1


def test_its_card_has_control_tokens_as_text_and_the_template_in_use(tmp_path):
    folder = tiny.write(tmp_path / "llama", "llama")
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(told | {"eos_token": {"content": "</s>", "special": True}, "pad_token": None}))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    card = FastTokenizer(folder).card
    assert (card["eos_token"], card["pad_token"], card["chat_template"]) == ("</s>", None, "{{ messages[0].content }}")
    (folder / "chat_template.jinja").write_text("{% if %}")
    assert FastTokenizer(folder).card["chat_template"] is None
