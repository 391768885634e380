"""Many answers at once on a pool that is too small for them: each is what it would be alone, and no block is lost."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from driving import KV_BYTES, come_and_go, drain, is_near, likeliest, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.call import Call
from llmos.abi.error import BadInput, TooLong, error_of
from llmos.abi.frame import ModelPath
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.abi.process import Priority
from llmos.engines.priority import BEHIND
from llmos.engines.pytorch import PyTorchEngine
from llmos.engines.pytorch.generation_scheduler import LIVE
from llmos.nn.generation.kv_cache import BLOCK, token_bytes
from llmos.testing import adapters, tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

PROMPTS = (
    "a",
    "the same beginning, longer than a block, then one",
    "the same beginning, longer than a block, then two!",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.write(root / name, name) for name in tiny.DECODERS}


def engine_of(folders, architecture, blocks, step_tokens=64, live=LIVE, dtype="float32"):
    block_bytes = BLOCK * token_bytes(tiny.plain(architecture).config, KV_BYTES[dtype])
    engine = PyTorchEngine(kv_bytes=blocks * block_bytes, step_tokens=step_tokens, live=live)
    manifest = Manifest("talk", 1, Kind.BASE, "generate", ())
    engine.load(ModelPath(manifest, str(folders[architecture])), "cpu0", dtype, 0)
    return engine


def generate(call_id, prompt, priority=Priority.INTERACTIVE, stream=False, **params):
    params = {"temperature": 0, "max_tokens": 30} | params
    return Call(call_id, "talk:1", "generate", (prompt,), params, priority=priority, stream=stream)


def pool_of(engine):
    return engine.pool


@pytest.fixture(scope="module")
def alone(folders):
    """What each architecture answers to each prompt when it has the engine to itself."""
    return {
        (name, prompt): texts(run_alone(engine_of(folders, name, 8), prompt))[1]
        for name in tiny.DECODERS
        for prompt in PROMPTS
    }


def run_alone(engine, prompt):
    engine.add(generate(1, prompt))
    return drain(engine)


@pytest.mark.parametrize("architecture", tiny.DECODERS)
@given(
    arrivals=st.lists(
        st.tuples(st.sampled_from(PROMPTS), st.integers(0, 3), st.booleans(), st.sampled_from(Priority)),
        min_size=2,
        max_size=8,
    ),
    blocks=st.integers(4, 9),
    step_tokens=st.integers(5, 80),
    live=st.integers(1, 8),
)
@settings(max_examples=12, deadline=None)
def test_greedy_answers_are_those_given_alone_whoever_comes_or_goes(
    folders, alone, architecture, arrivals, blocks, step_tokens, live
):
    engine = engine_of(folders, architecture, blocks, step_tokens, live)
    asked = [(generate(i, prompt, priority), steps, goes) for i, (prompt, steps, goes, priority) in enumerate(arrivals)]
    found = come_and_go(engine, asked)
    stayed = {i for i, (_, _, goes, _) in enumerate(arrivals) if not goes}
    assert stayed <= found.keys()
    assert found == {i: alone[architecture, arrivals[i][0]] for i in found}
    assert pool_of(engine).usage.held == 0
    assert pool_of(engine).usage.tokens_held == 0


@pytest.mark.parametrize("architecture", tiny.DECODERS)
def test_in_bfloat16_no_block_is_lost_and_tokens_are_as_likely_as_in_float32(folders, architecture):
    """What is said may be other words: docs/api.md, `seed`."""
    engine = engine_of(folders, architecture, 5, step_tokens=11, live=3, dtype="bfloat16")
    asked = [
        (generate(i, PROMPTS[i % 3], priority), i % 3, i == 3) for i, priority in enumerate([*Priority, *Priority])
    ]
    found = come_and_go(engine, asked)
    assert {0, 1, 2, 4, 5} <= found.keys()
    assert (pool_of(engine).usage.held, pool_of(engine).usage.tokens_held) == (0, 0)
    call = generate(9, PROMPTS[1])
    assert is_near(likeliest(engine, call), likeliest(engine_of(folders, architecture, 8), call))


def test_the_youngest_makes_room_for_the_oldest_and_is_answered_all_the_same(folders, alone):
    engine = engine_of(folders, "llama", 4)
    for i, prompt in enumerate(PROMPTS[1:]):
        engine.add(generate(i, prompt, cache_salt=str(i), max_tokens=30))
    found = drain(engine)
    assert engine.figures["preempted"] > 0
    assert [c.call_id for c in found] == [0, 1]
    assert texts(found) == {i: alone["llama", prompt] for i, prompt in enumerate(PROMPTS[1:])}


def test_a_batch_answer_gives_its_slot_to_an_interactive_call_and_goes_on_after_it(folders, alone):
    engine = engine_of(folders, "llama", 12, live=4)
    engine.add(
        Call(1, "talk:1", "generate", PROMPTS * 2, {"temperature": 0, "max_tokens": 30}, priority=Priority.BATCH)
    )
    for _ in range(6):
        engine.step()
    engine.add(generate(2, "a", max_tokens=2))
    chunks = drain(engine)
    assert [chunk.call_id for chunk in chunks] == [2, 1]
    assert [one["text"] for one in chunks[1].outputs] == [alone["llama", prompt] for prompt in PROMPTS * 2]
    assert engine.figures["preempted"] == 1


def test_batch_answers_give_an_interactive_call_only_the_blocks_it_needs(folders, alone):
    engine = engine_of(folders, "llama", 8)
    for i in range(3):
        engine.add(generate(i, PROMPTS[1], Priority.BATCH, cache_salt=str(i), max_tokens=12))
    for _ in range(3):
        engine.step()
    engine.add(generate(3, PROMPTS[2], max_tokens=2))
    found = drain(engine)
    assert [chunk.call_id for chunk in found] == [3, 0, 1, 2]
    assert engine.figures["preempted"] == 1
    assert pool_of(engine).usage.held == 0


def test_nobody_goes_back_for_a_call_that_would_not_fit_for_it(folders):
    engine = engine_of(folders, "llama", 6)
    engine.add(generate(1, "y" * 100, max_tokens=20))
    engine.add(generate(2, "a", Priority.BATCH, max_tokens=4))
    for _ in range(2):
        engine.step()
    engine.add(generate(3, "z" * 100, max_tokens=2))
    assert [chunk.call_id for chunk in drain(engine)] == [2, 1, 3]
    assert engine.figures["preempted"] == 0


@given(steps=st.lists(st.integers(0, 9), min_size=1, max_size=4), seed=st.integers(0, 5))
@settings(max_examples=8, deadline=None)
def test_a_preempted_answer_keeps_its_choices_logprobs_and_grammar(folders, steps, seed):
    params = {"temperature": 1.0, "seed": seed, "top_logprobs": 2, "logprobs": True, "regex": "[a-z]{3,18} [0-9]{4}"}
    asked = generate(1, PROMPTS[1], Priority.BATCH, stream=True, max_tokens=24, **params)

    def said(engine, others):
        engine.add(asked)
        chunks = []
        for call_id, some in enumerate(others, 2):
            for _ in range(some):
                chunks += [] if engine.is_idle else engine.step()
            engine.add(generate(call_id, "a", max_tokens=2))
        mine = [chunk.outputs[0] for chunk in chunks + drain(engine) if chunk.call_id == 1]
        entries = [entry for one in mine for entry in one["logprobs"]]
        numbers = [entry.pop("logprob") for entry in entries]
        tops = [(top["token"], top.pop("logprob")) for entry in entries for top in entry["top_logprobs"]]
        return "".join(one["text"] for one in mine), mine[-1]["finish_reason"], entries, numbers, tops

    engine = engine_of(folders, "llama", 8, live=1)
    text, reason, entries, numbers, tops = said(engine_of(folders, "llama", 8), ())
    found = said(engine, steps)
    assert found[:3] == (text, reason, entries)
    assert found[3] == pytest.approx(numbers, abs=1e-4)
    assert [token for token, _ in found[4]] == [token for token, _ in tops]
    is_under_way = 0 < steps[0] <= len(numbers)
    assert engine.figures["preempted"] > 0 or not is_under_way


def test_a_second_prompt_with_the_same_beginning_computes_the_rest_only(folders):
    engine = engine_of(folders, "llama", 8)
    engine.add(generate(1, PROMPTS[1], max_tokens=1))
    drain(engine)
    engine.add(generate(2, PROMPTS[2], max_tokens=1))
    drain(engine)
    usage = pool_of(engine).usage
    assert usage.tokens_found == BLOCK
    assert engine.figures["prefix_hit_rate"] == pytest.approx(BLOCK / usage.tokens_asked, abs=1e-3)


def test_prompts_that_begin_alike_and_come_together_are_read_once(folders):
    engine = engine_of(folders, "llama", 12)
    for i in range(4):
        engine.add(generate(i, PROMPTS[1], max_tokens=1))
    drain(engine)
    assert pool_of(engine).usage.tokens_found == 3 * BLOCK


def test_a_salt_keeps_a_beginning_to_those_who_know_it(folders):
    engine = engine_of(folders, "llama", 8)
    for i, salt in enumerate(("mine", "yours", "mine")):
        engine.add(generate(i, PROMPTS[1], max_tokens=1, cache_salt=salt))
        drain(engine)
    assert pool_of(engine).usage.tokens_found == BLOCK


def test_a_salt_that_utf_8_cannot_say_is_refused_by_its_name(folders):
    engine = engine_of(folders, "llama", 8)
    with fails_with(BadInput, key="cache_salt", reason="surrogate", at_character=4):
        engine.add(generate(1, "a", cache_salt="mine\ud800"))
    assert engine.is_idle
    assert (engine.figures["live"], engine.figures["waiting"]) == (0, 0)


def test_a_cancelled_answer_gives_its_blocks_back_at_once(folders):
    engine = engine_of(folders, "llama", 8)
    engine.add(generate(1, PROMPTS[1]))
    engine.step()
    assert pool_of(engine).usage.held > 0
    engine.cancel(1)
    assert pool_of(engine).usage.held == 0


def test_what_can_never_fit_is_refused_with_the_numbers(folders):
    engine = engine_of(folders, "llama", 2)
    with pytest.raises(TooLong) as caught:
        engine.add(generate(1, "x" * 80, max_tokens=40))
    assert caught.value.detail == {"size": 82, "limit": 64, "index": 0}
    assert engine.is_idle


@pytest.mark.parametrize("most", [None, 40, 2**31 - 1])
def test_an_answer_whose_limit_is_beyond_the_pool_ends_where_that_does(folders, most):
    engine = engine_of(folders, "llama", 2)
    engine.add(generate(1, PROMPTS[1], max_tokens=most))
    (chunk,) = drain(engine)
    assert chunk.fault is None
    assert chunk.tokens.prompt + chunk.tokens.completion <= 64


def test_answers_under_way_go_on_while_a_long_prompt_is_read(folders):
    engine = engine_of(folders, "llama", 12, step_tokens=8)
    engine.add(generate(1, "a", stream=True, max_tokens=6))
    engine.step()
    engine.add(generate(2, "y" * 60, stream=True, max_tokens=1))
    order = [chunk.call_id for chunk in drain(engine) if chunk.is_last]
    assert order == [1, 2]


def test_a_new_prompt_has_a_step_of_its_own_and_those_under_way_have_the_next(folders):
    engine = engine_of(folders, "llama", 12)
    engine.add(generate(1, "a", stream=True))
    while not engine.step():
        pass
    engine.step()  # a step for answers under way
    engine.add(generate(2, "b", stream=True))
    assert {chunk.call_id for chunk in engine.step()} <= {2}
    engine.add(generate(3, "c", stream=True))
    assert {chunk.call_id for chunk in engine.step()} >= {1}


def test_batch_work_waits_for_interactive_calls_but_not_for_ever(folders):
    engine = engine_of(folders, "llama", 4)
    engine.add(generate(0, "a", Priority.BATCH, max_tokens=2))
    for i in range(1, 200):
        engine.add(generate(i, f"{i:03} {'a' * 56}", max_tokens=2))
    tokens_before = 60 * [chunk.call_id for chunk in drain(engine)].index(0)
    assert BEHIND[Priority.BATCH] < tokens_before < 3 * BEHIND[Priority.BATCH]


@pytest.mark.parametrize("priority", Priority)
@pytest.mark.parametrize("calls", [1, 3])
def test_a_prompt_beside_calls_for_many_answers_is_answered_in_its_first_steps(folders, priority, calls):
    engine = engine_of(folders, "llama", 40, step_tokens=32, live=16)
    many = {"temperature": 0, "max_tokens": 40, "logit_bias": {tiny.SEP: -100}}
    for number in range(calls):
        prompts = tuple(f"{number} {i:03} {'x' * 20}" for i in range(200))
        engine.add(Call(number, "talk:1", "generate", prompts, many, priority=priority))
    for round_ in range(10):
        for _ in range(7):
            engine.step()
        engine.add(generate(100 + round_, f"a question {round_}", stream=True, max_tokens=2))
        for _ in range(8):
            if any(chunk.call_id == 100 + round_ and chunk.is_last for chunk in engine.step()):
                break
        else:
            raise AssertionError(f"8 steps, and the prompt of round {round_} has no answer")
    assert not engine.is_idle, "the large calls are still under way"


def test_a_call_with_many_inputs_lets_others_between_them(folders):
    engine = engine_of(folders, "llama", 4)
    params = {"temperature": 0, "max_tokens": 2}
    engine.add(Call(1, "talk:1", "generate", ("a",) * 300, params))
    engine.add(generate(2, "b", max_tokens=2))
    order = [chunk.call_id for chunk in drain(engine) if chunk.is_last]
    assert order == [2, 1]


def test_a_call_with_many_texts_lets_others_between_them(folders):
    engine = engine_of(folders, "llama", 4)
    engine.add(Call(1, "talk:1", "embed", ("some words to embed",) * 2000, {}))
    engine.add(Call(2, "talk:1", "embed", ("one",), {}))
    order = [chunk.call_id for chunk in drain(engine) if chunk.is_last]
    assert order == [2, 1]


def test_weights_that_are_no_numbers_fault_their_calls_and_leave_nothing_behind(folders, dtype):
    engine = engine_of(folders, "llama", 4, dtype=dtype)
    weight = engine.models["talk:1"].loaded.causal.model.norm.weight
    kept = weight.clone()
    engine.add(generate(1, PROMPTS[1]))
    with torch.inference_mode():
        weight.data = torch.full_like(kept, torch.nan)
    (chunk,) = drain(engine)
    assert "NaN" in str(error_of(chunk.fault))
    assert pool_of(engine).usage.held == 0


def test_a_model_under_a_removed_ones_name_finds_none_of_its_cached_prefixes(folders, tmp_path):
    """Versions of a name start again once all are removed: the ref is the same, and the adapter is not."""

    def lora(seed):
        folder = adapters.write(tmp_path / str(seed), tiny.plain("llama").base_model, seed=seed, strength=2.0)
        file = File("adapter_model.safetensors", f"{seed:064x}", 1, Part.ADAPTER)
        return ModelPath(
            Manifest("guest", 1, Kind.MODEL, "generate", (file,), base="talk:1", method="lora"), str(folder)
        )

    def answer(engine, call_id):
        engine.add(Call(call_id, "guest:1", "generate", (PROMPTS[1],), {"temperature": 0, "max_tokens": 12}))
        return texts(drain(engine))[call_id]

    fresh = {}
    for seed in (1, 2):
        engine = engine_of(folders, "llama", 8)
        engine.attach(lora(seed))
        fresh[seed] = answer(engine, seed)
    assert fresh[1] != fresh[2]
    answers = {}
    for call_id, seed in enumerate((1, 2, 1)):
        engine.attach(lora(seed))
        answers[call_id] = answer(engine, call_id)
        engine.detach("guest:1")
    assert answers == {0: fresh[1], 1: fresh[2], 2: fresh[1]}


def test_a_grammars_answer_keeps_to_max_tokens_and_too_few_are_refused(folders, dtype):
    engine = engine_of(folders, "llama", 8, dtype=dtype)
    rule = {"type": "string", "minLength": 6}
    with fails_with(BadInput, key="max_tokens", least=...) as refused:
        engine.add(generate(1, "a", json_schema=rule, max_tokens=1))
    least = refused.value.detail["least"]
    for call_id, most in enumerate((least, least + 3), 2):
        engine.add(generate(call_id, "a", json_schema=rule, max_tokens=most))
        (chunk,) = drain(engine)
        assert chunk.tokens.completion <= most
        assert len(json.loads(chunk.outputs[0]["text"])) >= 6


def test_a_grammar_whose_shortest_answer_does_not_fit_is_refused_as_too_long(folders):
    engine = engine_of(folders, "llama", 2)
    with pytest.raises(TooLong):
        engine.add(generate(1, "x" * 20, json_schema={"type": "string", "minLength": 500}, max_tokens=2**31 - 1))
    assert engine.is_idle
