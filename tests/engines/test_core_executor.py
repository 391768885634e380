"""Rows on several cores: what each core computes is a part of the row, and together it is the row."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from driving import CLOSE, drain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.abi.call import Call
from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import Priority
from llmos.engines.priority import SELDOM
from llmos.engines.pytorch import PyTorchEngine
from llmos.engines.pytorch.batcher import LARGE_ROW_S, LEAST_PART, parts, short
from llmos.nn.load import load_folder
from llmos.testing import adapters, tiny

pytestmark = pytest.mark.torch


@dataclass(frozen=True)
class Sized:
    ids: list[int]


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=50), st.integers(1, 8))
def test_parts_follow_each_other_in_order_and_none_is_much_heavier_than_its_share(lengths, count):
    items = [Sized([0] * length) for length in lengths]
    found = parts(items, count)
    assert [item for part in found for item in part] == items
    assert len(found) <= count
    assert all(found)
    heaviest = max(sum(len(item.ids) for item in part) for part in found)
    assert heaviest <= sum(lengths) / count + max(lengths)


def test_a_long_row_of_mixed_models_is_the_same_on_two_cores_as_on_one(tmp_path, dtype):
    base = tiny.write(tmp_path / "bert", "bert")
    adapted = adapters.write(tmp_path / "adapter", load_folder(base).backbone)
    texts = tuple("word " * (1 + i % 20) for i in range(120))
    found = []
    threads = torch.get_num_threads()
    for cores in (1, 2):
        engine = PyTorchEngine(token_budget=8192)
        engine.load(ModelPath(Manifest("base", 1, Kind.BASE, "embed", ()), str(base)), "cpu0", dtype, cores)
        manifest = Manifest("mine", 1, Kind.MODEL, "embed", (), method="lora", base="base:1")
        engine.attach(ModelPath(manifest, str(adapted)))
        for number, model in enumerate(("base:1", "mine:1")):
            engine.add(Call(number, model, "embed", texts))
        chunks = []
        while not engine.is_idle:
            chunks += engine.step()
        found.append({c.call_id: np.stack([np.frombuffer(o["data"], "<f4") for o in c.outputs]) for c in chunks})
    torch.set_num_threads(threads)
    for number in (0, 1):
        assert np.allclose(found[0][number], found[1][number], atol=CLOSE[dtype])
    assert not np.allclose(found[1][0], found[1][1], atol=0.1), "the adapter changes its own model's vectors alone"


def engine_on(folder, cores, **settings):
    engine = PyTorchEngine(**settings)
    engine.load(ModelPath(Manifest("base", 1, Kind.BASE, "embed", ()), str(folder)), "cpu0", "float32", cores)
    return engine


@pytest.fixture
def threads():
    """Loading sets how many threads torch has: for this test alone."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.write(root / name, name) for name in ("bert", "llama")}


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=40), min_size=1, max_size=8),
    left=st.sets(st.integers(0, 7)),
    after=st.integers(0, 3),
    cores=st.sampled_from([1, 2, 3]),
)
def test_every_call_is_answered_once_but_those_that_were_left(folders, threads, sizes, left, after, cores):
    engine = engine_on(folders["bert"], cores, token_budget=600)
    for number, lengths in enumerate(sizes):
        engine.add(Call(number, "base:1", "embed", tuple("w" * length for length in lengths)))
    chunks = []
    for _ in range(after):
        chunks += engine.step() if not engine.is_idle else []
    answered = {chunk.call_id for chunk in chunks}
    gone = {number for number in left if number not in answered}
    for number in gone:
        engine.cancel(number)
    for _ in range(500):
        if engine.is_idle:
            break
        chunks += engine.step()
    assert engine.is_idle
    assert sorted(chunk.call_id for chunk in chunks) == sorted(set(range(len(sizes))) - gone)
    assert all(len(chunk.outputs) == len(sizes[chunk.call_id]) for chunk in chunks)


def test_what_waits_is_cut_so_that_a_core_that_is_done_has_something_to_go_on_with(folders, threads):
    engine = engine_on(folders["bert"], 2)
    for number in range(8):
        engine.add(Call(number, "base:1", "embed", ("w" * 100,) * 8))
    first = {chunk.call_id for chunk in engine.step()}
    assert 0 < len(first) < 8, "not all at once, so that who was answered can ask again meanwhile"


def ask(number, priority, task="embed", **params):
    return Call(number, "base:1", task, ("a word or two",), params, priority=priority)


def steps_until(engine, number, most=100):
    """How many steps it takes until this call is answered."""
    for step in range(1, most):
        if any(chunk.call_id == number and chunk.is_last for chunk in engine.step()):
            return step
    raise AssertionError(f"call {number} was not answered in {most} steps")


LONG = {"temperature": 0, "max_tokens": 60, "logit_bias": {tiny.SEP: -100}}


@pytest.mark.parametrize(
    ("writes", "reads", "steps"),
    [
        (Priority.INTERACTIVE, Priority.INTERACTIVE, 1),
        (Priority.BATCH, Priority.INTERACTIVE, 1),
        (Priority.INTERACTIVE, Priority.BACKGROUND, SELDOM),
    ],
)
def test_inputs_beside_an_answer_wait_for_their_class_s_turn(folders, threads, writes, reads, steps):
    engine = engine_on(folders["llama"], 2)
    engine.add(ask(1, writes, "generate", **LONG))
    engine.step()
    engine.add(ask(2, reads))
    assert steps_until(engine, 2) == steps


def test_inputs_under_way_when_an_answer_begins_are_answered_when_computed(folders, threads):
    engine = engine_on(folders["llama"], 2)
    for number in range(3):  # a row each: one for each core, and one to go on with
        engine.add(Call(number, "base:1", "embed", ("w" * 90,) * 3))
    chunks = engine.step()
    engine.add(ask(9, Priority.INTERACTIVE, "generate", **LONG))
    chunks += engine.step()
    assert {chunk.call_id for chunk in chunks} == {0, 1, 2}


def test_inputs_that_wait_behind_those_of_a_lower_class_lend_them_their_own(folders, threads):
    engine = engine_on(folders["llama"], 1)
    engine.add(ask(0, Priority.INTERACTIVE, "generate", **LONG))
    engine.step()
    engine.add(Call(1, "base:1", "embed", ("w" * 100,) * 6, priority=Priority.BATCH))
    for number in range(2, 67):  # as many as may go before it, of another group or not yet sent
        engine.add(ask(number, Priority.BATCH))
        engine.cancel(number)
    engine.add(ask(99, Priority.INTERACTIVE))
    assert steps_until(engine, 99) < SELDOM


def test_an_answer_of_a_lower_class_goes_on_beside_inputs_that_never_end(folders, threads):
    engine = engine_on(folders["llama"], 2)
    engine.add(ask(0, Priority.BACKGROUND, "generate", **LONG | {"max_tokens": 5}))
    for number in range(1, 200):
        engine.add(ask(number, Priority.INTERACTIVE))
        if any(chunk.call_id == 0 for chunk in engine.step()):
            assert number == 5 * SELDOM
            return
    raise AssertionError("the answer did not come")


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("priority", Priority)
@pytest.mark.parametrize("calls", [1, 5])
def test_a_text_beside_large_calls_is_answered_before_two_more_rows_a_core(folders, threads, cores, priority, calls):
    """Whatever they are, of its class or a lower one, and however many came before it."""
    engine = engine_on(folders["bert"], cores, token_budget=4096)
    for number in range(calls):
        engine.add(Call(number, "base:1", "embed", ("w" * 60,) * 600, priority=priority))
    for round_ in range(8):
        engine.add(ask(100 + round_, Priority.INTERACTIVE))
        assert steps_until(engine, 100 + round_) <= 2 * cores + 1, "a step waits for one row"
    assert not engine.is_idle, "the large calls are still under way"


def test_large_calls_of_a_class_advance_side_by_side(folders, threads):
    engine = engine_on(folders["bert"], 1)
    for number in (1, 2):
        engine.add(Call(number, "base:1", "embed", ("w" * 60,) * 200))
        for _ in range(3):
            engine.step()
    engine.add(Call(3, "base:1", "embed", ("w" * 60,) * 60))
    order = [chunk.call_id for chunk in drain(engine)]
    assert order == [3, 1, 2], "the shortest does not wait for those before it to end"


def test_a_large_call_goes_on_beside_small_ones_that_never_end(folders, threads):
    engine = engine_on(folders["bert"], 1)
    engine.add(Call(0, "base:1", "embed", ("w" * 60,) * 60))
    for number in range(1, 500):
        for copy in range(20):
            engine.add(Call(1000 * (copy + 1) + number, "base:1", "embed", ("w" * 60,)))
        if any(chunk.call_id == 0 for chunk in engine.step()):
            return
    raise AssertionError("the large call starves")


def test_a_large_call_of_a_higher_class_passes_one_of_a_lower_class(folders, threads):
    engine = engine_on(folders["bert"], 1)
    engine.add(Call(1, "base:1", "embed", ("w" * 60,) * 900, priority=Priority.BACKGROUND))
    for _ in range(5):
        engine.step()
    engine.add(Call(2, "base:1", "embed", ("w" * 60,) * 300))
    assert [chunk.call_id for chunk in drain(engine)] == [2, 1]


@given(st.integers(LEAST_PART, 8192), st.floats(1, 1e7))
def test_a_large_calls_row_fits_its_time_and_is_never_too_short_to_be_fast(size, pace):
    tokens = short(size, pace)
    assert LEAST_PART <= tokens <= size
    assert tokens == LEAST_PART or tokens <= pace * LARGE_ROW_S
    assert short(size, None) == LEAST_PART


def test_the_pace_is_that_of_rows_that_were_computed(folders, threads):
    engine = engine_on(folders["bert"], 2)
    assert engine.pace is None
    engine.add(Call(1, "base:1", "embed", ("w" * 60,) * 100))
    drain(engine)
    assert engine.pace > 0
