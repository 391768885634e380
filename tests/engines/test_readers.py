"""Encoders with a decoder in the engine: each answer is what it would be alone, and no block is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from driving import KV_BYTES, come_and_go, drain, is_near, likeliest, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.call import Call
from llmos.abi.error import BadInput, TooLong, WrongTask
from llmos.abi.frame import ModelPath
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.abi.process import Priority
from llmos.engines.pytorch import PyTorchEngine
from llmos.nn.generation.kv_cache import BLOCK, token_bytes
from llmos.nn.text import sentencepiece
from llmos.testing import adapters, dates, pieces, tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

KINDS = ("t5", "marian", "bart")
TEXTS = (
    "a",
    "a text that is longer than a block of tokens",
    "another one, longer than two blocks of thirty-two tokens!!",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.write(root / name, name) for name in KINDS}


def engine_of(folders, name, blocks=32, step_tokens=64, dtype="float32"):
    block_bytes = BLOCK * token_bytes(tiny.plain(name).config, KV_BYTES[dtype])
    engine = PyTorchEngine(kv_bytes=blocks * block_bytes, step_tokens=step_tokens)
    manifest = Manifest("talk", 1, Kind.BASE, "generate", ())
    engine.load(ModelPath(manifest, str(folders[name])), "cpu0", dtype, 0)
    return engine


def ask(call_id, *texts, task="summarize", model="talk:1", **params):
    return Call(call_id, model, task, texts, {"max_tokens": 40} | params, stream=False)


@pytest.fixture(scope="module")
def alone(folders):
    found = {}
    for name in KINDS:
        engine = engine_of(folders, name)
        for text in TEXTS:
            engine.add(ask(1, text))
            found[name, text] = texts(drain(engine))[1]
    return found


def test_an_answer_is_what_transformers_writes_of_the_text_with_its_prefix(folders, alone):
    fast = tiny.tokenizer(opens=False)
    ids = fast.encode(f"summarize: {TEXTS[1]}").ids
    with torch.inference_mode():
        wanted = tiny.plain("t5").generate(torch.tensor([ids]), max_new_tokens=40, num_beams=1, do_sample=False)
    assert alone["t5", TEXTS[1]] == fast.decode(wanted[0].tolist())


@pytest.mark.parametrize("name", KINDS)
@given(
    arrivals=st.lists(
        st.tuples(st.sampled_from(TEXTS), st.integers(0, 3), st.booleans(), st.sampled_from(Priority)),
        min_size=2,
        max_size=6,
    ),
    blocks=st.integers(6, 12),
    step_tokens=st.integers(5, 80),
)
@settings(max_examples=6, deadline=None)
def test_greedy_answers_are_those_given_alone_whoever_comes_or_goes(
    folders, alone, name, arrivals, blocks, step_tokens
):
    engine = engine_of(folders, name, blocks, step_tokens)
    asked = [
        (replace(ask(i, text, n=1 + i % 2), priority=priority), steps, goes)
        for i, (text, steps, goes, priority) in enumerate(arrivals)
    ]
    found = come_and_go(engine, asked)
    stayed = {i for i, (_, _, goes, _) in enumerate(arrivals) if not goes}
    assert stayed <= found.keys()
    assert found == {i: alone[name, arrivals[i][0]] for i in found}
    usage = engine.pool.usage
    assert (usage.held, usage.tokens_held) == (0, 0)


@pytest.mark.parametrize("name", [*KINDS, "t5_gated"])
def test_in_bfloat16_no_block_is_lost_and_tokens_are_as_likely_as_in_float32(folders, tmp_path, name):
    folders = folders if name in folders else {name: tiny.write(tmp_path / name, name)}
    engine = engine_of(folders, name, 7, step_tokens=11, dtype="bfloat16")
    asked = [(ask(i, TEXTS[i % 3], n=1 + i % 2), i % 3, i == 3) for i in range(5)]
    assert {0, 1, 2, 4} <= come_and_go(engine, asked).keys()
    assert (engine.pool.usage.held, engine.pool.usage.tokens_held) == (0, 0)
    assert is_near(likeliest(engine, ask(9, TEXTS[1])), likeliest(engine_of(folders, name), ask(9, TEXTS[1])))


def test_the_youngest_makes_room_for_the_oldest_and_is_answered_all_the_same(folders, alone):
    engine = engine_of(folders, "t5", 7)
    for i, text in enumerate(TEXTS[1:]):
        engine.add(ask(i, text))
    found = drain(engine)
    assert engine.figures["preempted"] > 0
    assert texts(found) == {i: alone["t5", text] for i, text in enumerate(TEXTS[1:])}


def test_the_blocks_of_a_source_count_as_those_of_any_other_sequence(folders):
    engine = engine_of(folders, "t5")
    engine.add(ask(1, "x" * 100))
    engine.step()
    assert engine.figures["kv_held"] == 4 + 1  # "summarize: ", 100 letters and an end; and the answer
    engine.cancel(1)
    assert engine.figures["kv_held"] == 0


def test_the_answers_to_one_input_share_its_source(folders):
    engine = engine_of(folders, "t5")
    engine.add(ask(1, "x" * 100, n=3, temperature=1.0, seed=3, max_tokens=8))
    engine.step()
    engine.step()  # the source was more than a step, so that the others begin with the second
    assert engine.figures["kv_held"] == 4 + 3
    (chunk,) = drain(engine)
    assert len(chunk.outputs) == 3
    assert len({one["text"] for one in chunk.outputs}) > 1
    assert engine.figures["kv_held"] == 0


def test_a_seed_a_stop_string_logprobs_and_max_tokens_do_what_they_do_elsewhere(folders, alone):
    engine = engine_of(folders, "marian")
    engine.add(ask(1, TEXTS[1], temperature=1.0, seed=5, logprobs=True, top_logprobs=2, max_tokens=6))
    engine.add(ask(2, TEXTS[1], temperature=1.0, seed=5, logprobs=True, top_logprobs=2, max_tokens=6))
    stop = alone["marian", TEXTS[1]][2]
    engine.add(ask(3, TEXTS[1], stop=stop))
    found = {chunk.call_id: chunk.outputs[0] for chunk in drain(engine)}
    assert found[1]["text"] == found[2]["text"]
    assert found[1]["finish_reason"] == "length"
    assert all(len(entry["top_logprobs"]) == 2 for entry in found[1]["logprobs"])
    assert found[3]["text"] == alone["marian", TEXTS[1]].split(stop)[0]


def test_streamed_pieces_make_the_whole(folders, alone):
    engine = engine_of(folders, "bart")
    call = ask(1, TEXTS[2])
    engine.add(Call(call.call_id, call.model, call.task, call.inputs, call.params, stream=True))
    assert "".join(chunk.outputs[0]["text"] for chunk in drain(engine)) == alone["bart", TEXTS[2]]


def test_a_source_longer_than_the_models_positions_is_refused_with_the_numbers(folders):
    engine = engine_of(folders, "marian")
    with fails_with(TooLong, size=201, limit=128):
        engine.add(ask(1, "x" * 200))
    engine.add(ask(1, "x", max_tokens=200))  # an answer is no longer than the positions that are left
    assert drain(engine)[-1].tokens.completion <= 127


def test_a_source_longer_than_t5_s_config_says_is_refused_with_the_numbers(folders, tmp_path):
    folder = shutil.copytree(folders["t5"], tmp_path / "t5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_positions": 64}))
    engine = engine_of({"t5": folder}, "t5")
    with fails_with(TooLong, size=112, limit=64):
        engine.add(ask(1, "x" * 100))
    engine.add(ask(2, "x" * 40, max_tokens=100))  # distances know no end: an answer may be longer
    assert list(texts(drain(engine))) == [2]


def test_a_source_that_the_pool_has_no_room_for_is_refused_with_the_numbers(folders):
    engine = engine_of(folders, "t5", 3)
    with fails_with(TooLong, size=..., limit=96):
        engine.add(ask(1, "x" * 100))


def test_a_language_goes_into_the_prefix_or_is_refused(folders):
    t5, marian = engine_of(folders, "t5"), engine_of(folders, "marian")
    with fails_with(BadInput, key="target_language", reason="lacking"):
        t5.add(ask(1, "x", task="translate"))
    for i, params in enumerate(({}, {"source_language": "English"})):
        t5.add(ask(i, "x", task="translate", target_language="German", **params))
    t5.add(ask(2, "translate English to German: x", task="generate", temperature=0))
    assert len(set(texts(drain(t5)).values())) == 1
    with fails_with(BadInput, key="target_language", reason="one_pair"):
        marian.add(ask(1, "x", task="translate", target_language="German"))
    with pytest.raises(WrongTask):
        marian.add(ask(1, "x", task="embed"))


def test_models_of_different_adapters_share_a_row_and_answer_as_alone(folders, tmp_path, dtype):
    def located(name):
        folder = adapters.write(
            tmp_path / name, tiny.plain("bart"), seed=len(name), targets=("q_proj", "v_proj", "fc1")
        )
        files = (File("adapter_model.safetensors", name, 1, Part.ADAPTER),)
        manifest = Manifest(name, 1, Kind.MODEL, "summarize", files, base="talk:1", method="lora")
        return ModelPath(manifest, str(folder))

    calls = [(0, "talk:1"), (1, "a:1"), (2, "long:1"), (3, "a:1")]
    models = [located("a"), located("long")]
    single = {}
    for call_id, model in calls:
        engine = engine_of(folders, "bart", dtype=dtype)
        for one in models:
            engine.attach(one)
        engine.add(ask(call_id, TEXTS[1], model=model))
        single |= texts(drain(engine))
    assert len(set(single.values())) == 3
    engine = engine_of(folders, "bart", dtype=dtype)
    for one in models:
        engine.attach(one)
    for call_id, model in calls:
        engine.add(ask(call_id, TEXTS[1], model=model))
        engine.step()
    together = texts(drain(engine))
    assert together.keys() == single.keys()
    assert dtype != "float32" or together == single


@pytest.fixture(scope="module")
def mbart(tmp_path_factory):
    """mBART as its fifty languages come: no tokenizer.json, and a language told by a token."""
    folder = tiny.write(tmp_path_factory.mktemp("models") / "mbart", "mbart")
    (folder / "tokenizer.json").unlink()
    signs = [chr(0x4E00 + i) for i in range(176)]  # with 52 languages and five others as many as the model has
    letters = dict.fromkeys([sentencepiece.SPACE, *"abcdefghijklmnopqrstuvwxyz", *signs], -3.0)
    special = {"<unk>": pieces.UNKNOWN, "<s>": pieces.STEERS, "</s>": pieces.STEERS}
    (folder / "sentencepiece.bpe.model").write_bytes(pieces.model(letters, special=special))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MBart50Tokenizer"}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>"}))
    return folder


def test_mbart_reads_in_one_language_and_writes_in_another_as_its_tokens_say(mbart):
    engine = engine_of({"mbart": mbart}, "mbart")
    asked = ({}, {"target_language": "de_DE"}, {"target_language": "German", "source_language": "fr"})
    for i, params in enumerate(asked):
        engine.add(ask(i, "some words", task="translate", **params))
    found = texts(drain(engine))
    loaded = engine.models["talk:1"].loaded
    languages = loaded.reader.codes
    assert len(languages) == 52
    (encoded,) = loaded.tokenizer.encode(["some words"])
    assert encoded.ids[0] == languages["en_XX"]
    for i, (source, forced) in enumerate((("en_XX", None), ("en_XX", "de_DE"), ("fr_XX", "de_DE"))):
        ids = [languages[source], *encoded.ids[1:]]
        named = {} if forced is None else {"forced_bos_token_id": languages[forced]}
        with torch.inference_mode():
            made = tiny.plain("mbart").generate(
                torch.tensor([ids]), max_new_tokens=40 + len(named), num_beams=1, do_sample=False, **named
            )
        assert found[i] == loaded.tokenizer.decode(made[0].tolist())
    assert len(set(found.values())) == 3


def test_a_language_that_mbart_lacks_is_refused_and_its_neighbour_is_answered(mbart):
    engine = engine_of({"mbart": mbart}, "mbart")
    engine.add(ask(1, "some words", task="translate", target_language="de"))
    with fails_with(BadInput, key="target_language", value="Klingon", expected=...):
        engine.add(ask(2, "some words", task="translate", target_language="Klingon"))
    with fails_with(BadInput, key="source_language", value="tlh_XX"):
        engine.add(ask(3, "some words", task="translate", source_language="tlh_XX"))
    for empty in ("", " \n"):
        with fails_with(BadInput, field="text"):
            engine.add(ask(4, empty, task="translate"))
    with fails_with(TooLong, size=303, limit=128):
        engine.add(ask(5, "x" * 300, task="translate"))
    assert list(texts(drain(engine))) == [1]


@pytest.mark.parametrize("kind", ["t5", "marian"])
def test_an_answer_in_sentencepieces_follows_a_schema(tmp_path, kind, dtype):
    folder = (dates.write_t5 if kind == "t5" else dates.write_marian)(tmp_path / kind)
    engine = PyTorchEngine()
    engine.load(ModelPath(Manifest("talk", 1, Kind.BASE, "generate", ()), str(folder)), "cpu0", dtype, 0)
    day = {"type": "object", "properties": {"day": {"type": "integer"}, "of": {"enum": ["May", "a month"]}}}
    schema = day | {"required": ["day", "of"], "additionalProperties": False}
    for i in range(3):
        engine.add(ask(i, "01-02", task="generate", json_schema=schema, temperature=1.0, seed=i, max_tokens=50))
    engine.add(ask(3, "01-02", task="generate", regex="[0-9]{2} May", temperature=0))
    found = texts(drain(engine))
    assert all({"day", "of"} == json.loads(found[i]).keys() for i in range(3))
    assert found[3][2:] == " May"


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_rule_comes_before_what_the_model_s_own_files_bar(folders, temperature):
    """Keys of one object repeat what stands between them, which `no_repeat_ngram_size` bars."""
    engine = engine_of(folders, "bart")
    names = {"type": "boolean"}
    schema = {"type": "object", "properties": dict.fromkeys("abc", names), "required": [*"abc"]}
    engine.add(ask(1, "x", json_schema=schema | {"additionalProperties": False}, temperature=temperature, seed=1))
    assert json.loads(texts(drain(engine))[1]).keys() == {*"abc"}
