"""What a request may ask of its answers: several of them, their log-probabilities, and nothing a neighbour feels."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from driving import exact

from llmos.abi.call import Call
from llmos.abi.error import BadInput, TooLong
from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.engines.pytorch import PyTorchEngine
from llmos.testing import tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

FURTHEST = {"float32": 1e-4, "bfloat16": 0.5}  # of the log-probabilities of a tiny random model's likeliest tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture
def speaker(folder, dtype):
    engine = PyTorchEngine()
    engine.load(ModelPath(Manifest("talk", 1, Kind.BASE, "chat", ()), str(folder)), "cpu0", dtype, 0)
    return engine


def asked(call_id, *prompts, stream=False, **params):
    return Call(call_id, "talk:1", "generate", prompts, {"temperature": 1, "max_tokens": 12} | params, stream=stream)


def run(engine, *calls):
    for call in calls:
        engine.add(call)
    chunks = []
    while not engine.is_idle:
        chunks += engine.step()
    return chunks


def outputs(chunks, call_id=1):
    (chunk,) = [c for c in chunks if c.call_id == call_id]
    assert chunk.fault is None, chunk.fault
    return chunk.outputs


@exact
def test_several_answers_are_those_of_as_many_seeds_and_the_prompt_counts_once(speaker):
    (together,) = run(speaker, asked(1, "abc", "de", n=3, seed=5))
    alone = [outputs(run(speaker, asked(2, text, seed=seed)), 2)[0] for text in ("abc", "de") for seed in (5, 6, 7)]
    assert list(together.outputs) == alone
    single = run(speaker, asked(3, "abc", "de"))[0]
    assert together.tokens.prompt == single.tokens.prompt


def test_answers_without_a_seed_differ(speaker):
    texts = {one["text"] for one in outputs(run(speaker, asked(1, "abc", n=4, max_tokens=40)))}
    assert len(texts) == 4


def test_a_stream_of_several_answers_says_which_piece_is_whose(speaker):
    whole = outputs(run(speaker, asked(1, "abc", "de", n=2, seed=3)))
    chunks = run(speaker, asked(2, "abc", "de", n=2, seed=3, stream=True))
    texts, reasons = ["", "", "", ""], {}
    for chunk in chunks:
        (piece,) = chunk.outputs
        texts[piece["index"]] += piece["text"]
        if piece["finish_reason"]:
            assert piece["index"] not in reasons
            reasons[piece["index"]] = piece["finish_reason"]
    assert texts == [one["text"] for one in whole]
    assert reasons == {i: one["finish_reason"] for i, one in enumerate(whole)}
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].tokens.completion >= 4


@exact
def test_every_token_of_a_text_has_its_logprob(speaker):
    (one,) = outputs(run(speaker, asked(1, "hello", temperature=0, logprobs=True, top_logprobs=2, max_tokens=8)))
    entries = one["logprobs"]
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode(errors="replace") == one["text"]
    prompt = speaker.models["talk:1"].loaded.tokenizer.encode(["hello"])[0].ids
    ids = torch.tensor([prompt + [tiny.tokenizer().token_to_id(_letter(entry["bytes"])) for entry in entries]])
    expected = tiny.plain("llama")(ids).logits[0, len(prompt) - 1 :].detach().log_softmax(-1)
    for place, entry in enumerate(entries):
        assert entry["logprob"] == pytest.approx(float(expected[place].max()), abs=1e-4)
        assert entry["top_logprobs"][0]["logprob"] == entry["logprob"]
        assert [top["logprob"] for top in entry["top_logprobs"]] == pytest.approx(
            expected[place].topk(2).values.tolist(), abs=1e-4
        )


def _letter(data):
    from llmos.nn.text.tokenizer import BYTES

    return next(letter for letter, byte in BYTES.items() if [byte] == data)


def test_a_stream_says_each_logprob_once_with_its_text(speaker):
    said = {"logprobs": True, "top_logprobs": 1, "seed": 2, "max_tokens": 20}
    (whole,) = outputs(run(speaker, asked(1, "hello", **said)))
    pieces = [chunk.outputs[0] for chunk in run(speaker, asked(2, "hello", stream=True, **said))]
    assert [entry for piece in pieces for entry in piece["logprobs"]] == whole["logprobs"]
    assert len(whole["logprobs"]) in (19, 20)  # an end token is no text
    assert "logprobs" not in outputs(run(speaker, asked(3, "hello")), 3)[0]


def test_what_a_stop_string_swallows_has_no_logprobs(speaker):
    said = {"temperature": 1, "seed": 3, "logprobs": True, "regex": "[a-z]{12}"}
    (free,) = outputs(run(speaker, asked(1, "hello", **said)))
    letters = [entry["token"] for entry in free["logprobs"]]
    place = next(i for i in range(3, 12) if letters[i] not in letters[:i])
    (cut,) = outputs(run(speaker, asked(2, "hello", stop=letters[place], **said)), 2)
    assert cut["text"] == free["text"][:place]
    assert cut["logprobs"] == free["logprobs"][:place]


def test_a_bias_out_of_the_vocabulary_is_refused_and_the_engine_goes_on(speaker):
    with fails_with(BadInput, key="logit_bias", token=260):
        speaker.add(asked(1, "hello", logit_bias={"260": 1}))
    assert outputs(run(speaker, asked(2, "hello", logit_bias={"37": 100}, max_tokens=4)), 2)[0]["text"] == "BBBB"


def test_more_tokens_than_the_context_has_are_as_many_as_fit(speaker):
    prompt, bias = "hello" * 24, {"37": 100}  # which never ends by itself
    ended = run(speaker, asked(1, prompt, max_tokens=100_000, logit_bias=bias))
    (said,) = outputs(ended, 1)
    assert (said["finish_reason"], said["text"]) == ("length", "B" * (128 - ended[-1].tokens.prompt))
    with fails_with(TooLong, limit=127, context=128):
        speaker.add(asked(1, "hello" * 26))
    with fails_with(BadInput, key="max_tokens", value="0"):
        speaker.add(asked(1, "hello", max_tokens=0))


def test_beside_others_a_logprob_differs_no_more_than_its_format_allows(speaker, dtype):
    """As docs/api.md says at `seed`: up to the first token that differs, and there too, for what comes before is the
    same. Of a random model the likeliest tokens are compared: the unlikely ones have logits in which nobody trusts."""
    texts, told = ("abc", "de", "a third one, longer than these", "x" * 20), {"logprobs": True, "top_logprobs": 3}
    calls = [asked(i, text, seed=5, temperature=0.5, **told) for i, text in enumerate(texts)]
    together = run(speaker, *calls)
    compared = 0
    for call in calls:
        (beside,), (alone,) = outputs(together, call.call_id), outputs(run(speaker, call), call.call_id)
        if dtype == "float32":
            assert beside["text"] == alone["text"]
        for one, other in zip(beside["logprobs"], alone["logprobs"], strict=False):
            known = {bytes(top["bytes"]): top["logprob"] for top in other["top_logprobs"]}
            for top in one["top_logprobs"]:
                if (key := bytes(top["bytes"])) in known:  # several tokens are the same text: half a character
                    assert top["logprob"] == pytest.approx(known[key], abs=FURTHEST[dtype])
                    compared += 1
            if one["bytes"] != other["bytes"]:
                break
    assert compared >= 2 * len(texts)
