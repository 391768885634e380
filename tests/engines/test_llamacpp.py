"""The llama.cpp driver, beyond what every engine promises: headers of GGUF, room, rules, and what it refuses."""

from __future__ import annotations

import struct
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.call import Call
from llmos.abi.error import BadInput, Missing, Unavailable
from llmos.abi.frame import ModelPath
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.engines.external_generation import Leg
from llmos.engines.llamacpp import LlamaCppEngine
from llmos.engines.llamacpp.engine import SLOTS, room_of
from llmos.engines.llamacpp.header import Header, read_header
from llmos.engines.llamacpp.rule import LlamaCppRule
from llmos.engines.llamacpp.writer import LlamaCppEvent, body_of
from llmos.tasks.generate import Sampling
from llmos.tasks.grammar import Grammar
from llmos.testing.errors import fails_with
from llmos.testing.tiny_gguf import HEADS, HIDDEN, LAYERS, MAX_TOKENS, write_gguf

SCHEMA = (
    '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}'
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_a_header_says_what_room_a_token_takes_and_how_many_there_may_be(tiny):
    header = read_header(tiny)
    assert (header.architecture, header.max_tokens) == ("llama", MAX_TOKENS)
    assert header.vocabulary == header.entries["tokenizer.ggml.tokens"]
    assert header.token_bytes == LAYERS * HEADS * 2 * (HIDDEN // HEADS) * 2


def test_layers_with_heads_of_their_own_number_are_added_up():
    entries = {"general.architecture": "x", "x.block_count": 3, "x.attention.head_count": 4, "x.embedding_length": 64}
    assert Header(entries | {"x.attention.head_count_kv": [1, 2, 1]}).token_bytes == 4 * (16 + 16) * 2
    assert Header(entries | {"x.attention.head_count_kv": 2, "x.attention.key_length": 32}).token_bytes == 6 * 48 * 2


@given(cut=st.integers(0, 3000))
@settings(max_examples=40, deadline=None)
def test_a_file_that_was_cut_in_its_header_is_refused_with_its_name(tiny, tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "cut.gguf"
    path.write_bytes(tiny.read_bytes()[:cut])
    with fails_with(BadInput, file="cut.gguf"):
        read_header(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.gguf").write_bytes(struct.pack("<4sIQQ", b"GGML", 3, 0, 0))
    with fails_with(BadInput, file="a.gguf", begins_as_gguf=False):
        read_header(tmp_path / "a.gguf")


def test_there_is_room_for_what_kv_bytes_allow_and_no_more_than_the_slots_can_use(tiny):
    header = read_header(tiny)
    assert room_of(header, 1 << 30, None) == (MAX_TOKENS, SLOTS * MAX_TOKENS)
    assert room_of(header, 100 * header.token_bytes, None) == (100, 100)
    assert room_of(header, 1 << 30, 32) == (32, SLOTS * 32)
    with fails_with(BadInput, key="kv_bytes", least=header.token_bytes):
        room_of(header, header.token_bytes - 1, None)


def test_what_a_request_says_is_said_in_its_words():
    said = Sampling(0.5, 0.9, 7, 0.1, 1.2, 0.3, 0.4, ((3, -5.0),), -1, 1, ("end",), 9, 2)
    body = body_of([1, 2], said, "salt")
    assert {key: body[key] for key in ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "n_predict")} == {
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "repeat_penalty": 1.2, "n_predict": 9
    }  # fmt: skip
    assert (body["stop"], body["logit_bias"], body["logprobs"]) == (["end"], [[3, -5.0]], 2)
    assert not body["cache_prompt"]
    assert 0 <= body["seed"] < 2**32 - 1


@pytest.mark.parametrize(
    ("rule", "good", "begun", "bad"),
    [
        (Grammar("regex", "[0-9]{3}"), "123", "12", "1x"),
        (Grammar("json_schema", SCHEMA), '{"a": 12}', '{"a": 1', '{"b"'),
        (Grammar("grammar", 'start: "yes" | "no"'), "yes", "ye", "maybe"),
        (Grammar("grammar", 'root ::= "yes" | "no"'), "yes", "ye", "maybe"),
        (Grammar("regex", r"a/b\/c\\/d"), "a/b/c\\/d", "a/b/", "ab"),
    ],
    ids=lambda one: one.text[:12] if isinstance(one, Grammar) else None,
)
def test_an_answer_is_held_against_its_rule(rule, good, begun, bad):
    kept = LlamaCppRule(rule)
    kept.check(good, is_whole=True)
    kept.check(begun, is_whole=False)
    for text, is_whole in ((begun, True), (bad, False)):
        with fails_with(Unavailable, rule=rule.kind):
            kept.check(text, is_whole=is_whole)


@pytest.mark.parametrize("rule", [Grammar("grammar", "start: !!"), Grammar("regex", "[")], ids=lambda one: one.kind)
def test_a_rule_that_cannot_be_read_is_refused_before_anything_is_written(rule):
    with fails_with(BadInput, key=rule.kind):
        LlamaCppRule(rule)


def test_a_cancelled_answer_ends_at_the_next_thing_that_is_said():
    class Job:
        is_over = True

    leg = Leg(0, Job(), 0, Sampling(), "")
    heard = LlamaCppEvent(leg, lambda piece: pytest.fail("nobody listens"), None)
    assert heard({"choices": [{"text": "more"}]}) is True
    heard.end()


def test_an_answer_that_broke_off_is_no_answer():
    class Job:
        is_over = False

    heard = LlamaCppEvent(Leg(0, Job(), 0, Sampling(), ""), lambda piece: None, None)
    heard({"choices": [{"text": "half", "finish_reason": None}]})
    with fails_with(Unavailable, reason="cut"):
        heard.end()


def test_its_folder_may_lie_deeper_than_a_sockets_path_is_long(tiny, tmp_path, monkeypatch):
    pytest.importorskip("xllamacpp", reason="the extra gguf is not installed")
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))  # where a child's lie: in its scratch
    base = Manifest("talk", 1, Kind.BASE, "chat", (File("tiny.gguf", "0" * 64, 1, Part.WEIGHTS),))
    engine = LlamaCppEngine(kv_bytes=1 << 22)
    engine.load(ModelPath(base, str(tiny.parent)), "cpu0", "float32", 1)
    engine.add(Call(1, "talk:1", "generate", ("hello",), {"max_tokens": 2}))
    chunks = []
    while not engine.is_idle:
        chunks += engine.step()
    assert [chunk.fault for chunk in chunks] == [None]
    assert len(list(deep.glob("*/s.sock"))) == 1
    engine.close()
    assert list(deep.iterdir()) == []


def test_the_library_that_is_absent_is_named_with_what_to_install(tiny, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xllamacpp", None)
    base = Manifest("talk", 1, Kind.BASE, "chat", (File("tiny.gguf", "0" * 64, 1, Part.WEIGHTS),))
    with pytest.raises(Missing) as caught:
        LlamaCppEngine().load(ModelPath(base, str(tiny.parent)), "cpu0", "float32", 1)
    assert caught.value.detail == {"extra": "gguf"}


def test_what_a_call_hands_to_the_template_reaches_it(tmp_path):
    pytest.importorskip("xllamacpp", reason="the extra gguf is not installed")
    template = "{{ messages[0]['content'] }}{% if loud %}, and as loud as it can be{% endif %}"
    write_gguf(tmp_path / "tiny.gguf", template=template)
    base = Manifest("talk", 1, Kind.BASE, "chat", (File("tiny.gguf", "0" * 64, 1, Part.WEIGHTS),))
    engine = LlamaCppEngine(kv_bytes=1 << 22)
    engine.load(ModelPath(base, str(tmp_path)), "cpu0", "float32", 1)
    try:
        for i, given_ in enumerate(({}, {"loud": False}, {"loud": True})):
            engine.add(Call(i, "talk:1", "chat", ("hello",), {"max_tokens": 2, "chat_template_kwargs": given_}))
        chunks = []
        while not engine.is_idle:
            chunks += engine.step()
        sizes = {chunk.call_id: chunk.tokens.prompt for chunk in chunks}
        assert sizes[0] == sizes[1] < sizes[2]
        with fails_with(BadInput, key="chat_template_kwargs.tools"):
            engine.add(Call(9, "talk:1", "chat", ("hello",), {"chat_template_kwargs": {"tools": []}}))
    finally:
        engine.close()
