"""A prompt that its answer repeats: as likely as transformers finds it, whole or in chunks, alone or beside others."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from driving import KV_BYTES, drain

from llmos.abi.call import Call
from llmos.abi.error import BadInput, error_of
from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.engines.pytorch import PyTorchEngine
from llmos.nn.generation.kv_cache import BLOCK, token_bytes
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.testing import tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

TEXT = "the same beginning, longer than a block of tokens, then one more: zwölf 🙂 boxes"
PROMPTS = (TEXT, "a b", TEXT + " and an end", "x")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.write(root / name, name) for name in tiny.DECODERS}


def engine_of(folders, architecture, blocks=64, step_tokens=64):
    block_bytes = BLOCK * token_bytes(tiny.plain(architecture).config, KV_BYTES["float32"])
    engine = PyTorchEngine(kv_bytes=blocks * block_bytes, step_tokens=step_tokens)
    engine.load(
        ModelPath(Manifest("talk", 1, Kind.BASE, "generate", ()), str(folders[architecture])), "cpu0", "float32", 0
    )
    return engine


def ask(call_id, *prompts, stream=False, **params):
    params = {"temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 2, "echo": True} | params
    return Call(call_id, "talk:1", "generate", prompts, params, stream=stream)


def answers(engine, *calls):
    for call in calls:
        engine.add(call)
    found = {}
    for chunk in drain(engine):
        assert chunk.fault is None, chunk.fault
        found[chunk.call_id] = list(chunk.outputs)
    return found


def reference(architecture, ids):
    """What transformers says of each token behind the first: log-probabilities of the whole vocabulary."""
    with torch.inference_mode():
        logits = tiny.plain(architecture)(input_ids=torch.tensor([ids])).logits[0]
    return logits.float().log_softmax(-1)


def check(architecture, ids, entries):
    """These entries are of these tokens, as likely as transformers finds them."""
    expected = reference(architecture, ids)
    assert len(entries) == len(ids)
    assert (entries[0]["logprob"], entries[0]["top_logprobs"]) == (None, [])
    for at, (token, entry) in enumerate(zip(ids[1:], entries[1:], strict=True)):
        assert entry["logprob"] == pytest.approx(float(expected[at, token]), abs=1e-4)
        best = expected[at].topk(2).values.tolist()
        assert [one["logprob"] for one in entry["top_logprobs"]] == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("architecture", tiny.DECODERS)
@pytest.mark.parametrize("step_tokens", [7, 64])
def test_prompts_are_as_likely_as_transformers_finds_them(folders, architecture, step_tokens):
    tokenizer = FastTokenizer(folders[architecture])
    engine = engine_of(folders, architecture, step_tokens=step_tokens)
    for _ in range(2):  # the second time all of it is in the prefix cache
        made = answers(engine, ask(1, *PROMPTS))[1]
        for prompt, one in zip(PROMPTS, made, strict=True):
            (encoded,) = tokenizer.encode([prompt])
            check(architecture, encoded.ids, one["logprobs"][: len(encoded.ids)])
            assert one["text"].startswith(prompt)
            assert one["finish_reason"] == "length"


def test_no_answer_at_all_is_the_prompt_alone(folders):
    engine = engine_of(folders, "llama")
    (one,) = answers(engine, ask(1, TEXT, max_tokens=0))[1]
    (encoded,) = FastTokenizer(folders["llama"]).encode([TEXT])
    assert (one["text"], one["finish_reason"], len(one["logprobs"])) == (TEXT, "length", len(encoded.ids))
    check("llama", encoded.ids, one["logprobs"])


def test_the_answer_is_the_one_without_echo(folders):
    engine = engine_of(folders, "llama")
    with_it = answers(engine, ask(1, TEXT, max_tokens=12, stop=["zwölf"]))[1][0]
    without = answers(engine, ask(2, TEXT, max_tokens=12, stop=["zwölf"], echo=False))[2][0]
    assert with_it["text"] == TEXT + without["text"]
    assert [one["token"] for one in with_it["logprobs"]][-12:] == [one["token"] for one in without["logprobs"]]
    assert answers(engine, ask(3, TEXT, max_tokens=12, logprobs=False, top_logprobs=0))[3][0].keys() == {
        "text",
        "finish_reason",
    }


def test_offsets_say_where_each_token_begins(folders):
    engine = engine_of(folders, "llama")
    (one,) = answers(engine, ask(1, TEXT, max_tokens=0))[1]
    offsets = [entry["text_offset"] for entry in one["logprobs"]]
    assert offsets == sorted(offsets)
    for entry in one["logprobs"]:
        whole = bytes(entry["bytes"])
        if whole.isascii() and not entry["token"].startswith("["):
            assert TEXT[entry["text_offset"] :].startswith(entry["token"])


def test_token_ids_are_read_as_they_are(folders):
    tokenizer = FastTokenizer(folders["llama"])
    engine = engine_of(folders, "llama")
    (encoded,) = tokenizer.encode([TEXT], special=False)
    made = answers(engine, ask(1, {"prompt": encoded.ids}, {"prompt": [7, 5, 9]}, TEXT, max_tokens=0))[1]
    check("llama", encoded.ids, made[0]["logprobs"])
    check("llama", [7, 5, 9], made[1]["logprobs"])
    assert [made[0]["text"], made[2]["text"]] == [TEXT, TEXT]


def test_a_stream_says_the_prompt_first_and_every_entry_once(folders):
    engine = engine_of(folders, "llama", step_tokens=7)
    engine.add(ask(1, TEXT, stream=True, max_tokens=6))
    pieces = [output for chunk in drain(engine) for output in chunk.outputs]
    whole = answers(engine, ask(2, TEXT, max_tokens=6))[2][0]
    assert pieces[0]["text"].startswith(TEXT)
    assert "".join(one["text"] for one in pieces) == whole["text"]
    assert [entry["token"] for one in pieces for entry in one["logprobs"]] == [
        one["token"] for one in whole["logprobs"]
    ]


def test_a_full_cache_changes_no_number(folders):
    blocks = -(-2 * len(TEXT) // BLOCK)  # two of the prompts do not fit together
    engine = engine_of(folders, "llama", blocks=blocks, step_tokens=16)
    calls = [ask(i, TEXT + f" {i}", max_tokens=20) for i in range(4)]
    made = answers(engine, *calls)
    tokenizer = FastTokenizer(folders["llama"])
    for i in range(4):
        (encoded,) = tokenizer.encode([TEXT + f" {i}"])
        check("llama", encoded.ids, made[i][0]["logprobs"][: len(encoded.ids)])


def test_the_prefix_cache_is_as_before_for_those_behind(folders):
    engine = engine_of(folders, "llama")
    answers(engine, ask(1, TEXT, max_tokens=0))
    before = engine.pool.tokens_found
    answers(engine, ask(2, TEXT, echo=False))
    assert engine.pool.tokens_found > before


@pytest.mark.parametrize(
    ("params", "key"), [({"echo": "yes"}, "echo"), ({"echo": False, "max_tokens": 0}, "max_tokens")]
)
def test_what_is_no_echo_is_refused(folders, params, key):
    engine = engine_of(folders, "llama")
    with fails_with(BadInput, key=key):
        engine.add(ask(1, "a", **params))


@pytest.mark.parametrize("ids", [[1 << 20], [-1], [3, -2]])
def test_a_token_beyond_the_vocabulary_is_refused_by_its_place(folders, ids):
    engine = engine_of(folders, "llama")
    with fails_with(BadInput, index=1, token=ids[-1]):
        engine.add(ask(1, "a", {"prompt": ids}))


def test_only_its_own_call_fails_for_weights_that_are_no_numbers(folders):
    engine = engine_of(folders, "llama")
    engine.models["talk:1"].loaded.causal.get_output_embeddings().weight.data[3] = torch.nan
    engine.add(ask(1, TEXT))
    (chunk,) = drain(engine)
    assert error_of(chunk.fault).detail["reason"] == "not_finite"
