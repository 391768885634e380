"""Capabilities as manifests say them; that engines do just that, tests/engines/test_capabilities.py holds."""

from dataclasses import replace

import pytest

from llmos.abi.capability import capabilities_of, tasks_of
from llmos.abi.engine import ENGINES
from llmos.abi.model import File, Kind, Manifest, Part

WRITES = Manifest("talk", 1, Kind.BASE, "chat", (File("a.gguf", "0" * 64, 1, Part.WEIGHTS),))
RULES = ("json_schema", "regex", "grammar", "tools")


def test_what_an_embedding_base_does_is_said_in_one_order():
    embeds = replace(WRITES, task="embed", options={"tasks": ["embed", "similarity", "rerank", "classify", "tag"]})
    said = ("embed", "classify", "rerank", "similarity", "zero_shot")
    assert {name: capabilities_of(embeds, name) for name in ("pytorch", "onnx", "null")} == dict.fromkeys(
        ("pytorch", "onnx", "null"), said
    )


@pytest.mark.parametrize(
    ("vocabulary", "keeps"), [({}, True), ({"vocabulary": "gpt2"}, True), ({"vocabulary": "llama"}, False)]
)
def test_llama_cpp_keeps_to_rules_with_a_vocabulary_of_byte_pairs_alone(vocabulary, keeps):
    base = replace(WRITES, options={"tasks": ["chat", "generate"], **vocabulary})
    assert [one in capabilities_of(base, "llamacpp") for one in RULES] == [keeps] * 4
    assert [one in capabilities_of(base, "pytorch") for one in RULES] == [True] * 4


@pytest.mark.parametrize("name", ENGINES)
def test_a_manifest_made_before_options_named_tasks_is_one_that_chats(name):
    assert ("chat" in tasks_of(WRITES, name)) == (name != "onnx")


def test_a_model_does_what_its_base_can():
    plain = replace(WRITES, task="generate", options={"tasks": ["generate"]})
    model = Manifest("mine", 1, Kind.MODEL, "generate", (), base="talk:1", method="lora")
    assert tasks_of(model, "pytorch", plain) == ("generate", "summarize", "translate")
    assert tasks_of(model, "pytorch", WRITES) == ("generate", "chat", "summarize", "translate")
