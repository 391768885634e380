"""What every engine promises, whoever computes: the protocol as sentences, each held against each driver."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("torch")

from driving import CLOSE, drain

from llmos.abi.call import Call, Operation
from llmos.abi.error import BadInput, LlmosError, ModelNotFound, WrongTask
from llmos.abi.frame import ModelPath
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.engines import DRIVERS, Engine, driver
from llmos.engines.intake import whole
from llmos.engines.tokenization import tokenize_in_steps
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

FAKE_VLLM = f"{sys.executable} -m llmos.testing.openai_server"
TEXTS = ("ada lives in london", "ok", "a much longer text than the others are, to be padded beside", "why?", "ab ab ab")


@dataclass(frozen=True)
class Subject:
    """A driver with its base loaded; `task` is one that it does, `wrong` one that it does not."""

    name: str
    engine: Engine
    base: ModelPath
    task: str
    wrong: str
    weights_bytes: int
    dtype: str = "float32"

    def call(self, call_id: int, *texts: Any, stream: bool = False, **params: Any) -> Call:
        said = {"temperature": 0, "max_tokens": 8} | params if self.task == "generate" else params
        return Call(call_id, self.base.manifest.ref, self.task, texts or ("hello",), said, stream=stream)


def _based(name: str, task: str, folder, weights: str, **fields) -> ModelPath:
    files = (File(weights, "0" * 64, 1, Part.WEIGHTS),)
    return ModelPath(Manifest(name, 1, Kind.BASE, task, files, **fields), str(folder))


def _null(root):
    return _based("talk", "generate", root, "model.safetensors"), "generate", "answer_nothing", {}


def _pytorch(root):
    from llmos.testing import tiny

    folder = tiny.write(root / "llama", "llama")
    return _based("talk", "generate", folder, "model.safetensors"), "generate", "tag", {}


def _encoder(root):
    from llmos.testing import tiny

    folder = tiny.write(root / "bert", "bert")
    return _based("base", "embed", folder, "model.safetensors"), "embed", "generate", {}


def _llamacpp(root):
    pytest.importorskip("xllamacpp", reason="the extra gguf is not installed")
    from llmos.testing.tiny_gguf import write_gguf

    write_gguf(root / "tiny.gguf")
    return _based("talk", "chat", root, "tiny.gguf"), "generate", "embed", {}


def _onnx(task, wrong):
    def made(root):
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        pytest.importorskip("onnx", reason="the tools for tests are not installed")
        from llmos.testing.tiny_onnx import LABELS, write_onnx

        write_onnx(root, task)
        return _based("graph", task, root, "model.onnx", labels=LABELS[task]), task, wrong, {}

    return made


def _vllm(root):
    from llmos.testing import tiny

    folder = tiny.write(root / "llama", "llama")
    tasks = {"tasks": ["chat", "generate"], "max_tokens": 128}
    base = _based("talk", "chat", folder, "model.safetensors", options=tasks)
    return base, "generate", "embed", {"command": FAKE_VLLM}


SUBJECTS = {
    "null": ("null", _null),
    "pytorch": ("pytorch", _pytorch),
    "pytorch encoder": ("pytorch", _encoder),
    "pytorch in bfloat16": ("pytorch", _pytorch),
    "pytorch encoder in bfloat16": ("pytorch", _encoder),
    "llamacpp": ("llamacpp", _llamacpp),
    "onnx classify": ("onnx", _onnx("classify", "tag")),
    "onnx tag": ("onnx", _onnx("tag", "embed")),
    "onnx embed": ("onnx", _onnx("embed", "tag")),
    "vllm": ("vllm", _vllm),
}
WRITING = ("null", "pytorch", "llamacpp", "vllm")


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request, tmp_path_factory):
    name, made = SUBJECTS[request.param]
    base, task, wrong, more = made(tmp_path_factory.mktemp("base"))
    engine = driver(name, 512, 1 << 22, **more)
    dtype = "bfloat16" if request.param.endswith("bfloat16") else "float32"
    weights = engine.load(base, "cuda0" if name == "vllm" else "cpu0", dtype, 1)
    yield Subject(name, engine, base, task, wrong, weights, dtype)
    engine.close()


@pytest.fixture
def writing(subject):
    if subject.task != "generate":
        pytest.skip("it answers in one pass, and writes nothing")
    return subject


def run(subject, *calls):
    for call in calls:
        subject.engine.add(call)
    return drain(subject.engine)


def outputs(chunks, call_id=1):
    (found,) = [chunk for chunk in chunks if chunk.call_id == call_id]
    assert found.fault is None, found.fault
    return list(found.outputs)


def alike(subject, one, other):
    """Equal, as far as the number format says (docs/api.md, seeds): in bfloat16 a text may be another."""
    if subject.dtype == "bfloat16" and subject.task == "generate":
        return [answer.keys() for answer in one] == [answer.keys() for answer in other]
    return near(one, other, 1e-4 if subject.dtype == "float32" else CLOSE[subject.dtype])


def near(one, other, by):
    """Equal, but for the last digits that another order of sums changes."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key], by) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(near(left, right, by) for left, right in zip(one, other, strict=True))
    if isinstance(one, bytes):
        import numpy as np

        left, right = (np.frombuffer(data, "<f4") for data in (one, other))
        return left.shape == right.shape and bool(np.allclose(left, right, atol=by))
    return one == pytest.approx(other, abs=by) if isinstance(one, float) else one == other


def test_there_is_a_subject_for_every_driver():
    assert {name for name, _ in SUBJECTS.values()} == set(DRIVERS)


def test_loading_says_how_many_bytes_the_weights_take(subject):
    assert subject.weights_bytes > 0 or subject.name == "null"


def test_it_is_idle_before_the_first_call_and_after_the_last(subject):
    assert subject.engine.is_idle
    run(subject, subject.call(1))
    assert subject.engine.is_idle
    assert subject.engine.step() == []


def test_a_call_is_answered_once_and_in_the_order_of_its_inputs(subject):
    chunks = run(subject, subject.call(1, *TEXTS))
    assert [(chunk.call_id, chunk.is_last) for chunk in chunks] == [(1, True)]
    together = outputs(chunks)
    alone = [outputs(run(subject, subject.call(1, text)))[0] for text in TEXTS]
    assert alike(subject, together, alone)


def test_answers_are_the_same_alone_and_beside_others(subject):
    calls = [subject.call(i, text) for i, text in enumerate(TEXTS)]
    together = run(subject, *calls)
    assert sorted(chunk.call_id for chunk in together) == list(range(len(TEXTS)))
    for call in calls:
        assert alike(subject, outputs(together, call.call_id), outputs(run(subject, call), call.call_id))


def test_tokens_read_and_made_are_counted(subject):
    (chunk,) = run(subject, subject.call(1, "hello there"))
    assert chunk.tokens.prompt > 0
    assert (chunk.tokens.completion > 0) == (subject.task == "generate")


def read_by_tokenizer(subject, operation, *inputs, task=None, **params):
    """What the tokenizer alone makes of these inputs."""
    call = Call(1, subject.base.manifest.ref, task or subject.task, inputs, params, operation=operation)
    told = []
    whole(tokenize_in_steps(subject.engine.tokenizer_of(call.model), call, told.append))()
    return outputs(told)


def test_the_tokens_of_a_text_have_their_places_in_it(subject):
    (one,) = read_by_tokenizer(subject, Operation.TOKENIZE, "hello there", special=False)
    assert one["limit"] > 0
    assert len(one["strings"]) == len(one["tokens"]) > 0
    for token in one["tokens"]:
        assert token["text"] == "hello there"[token["start"] : token["stop"]]
        assert not token["special"]


def test_a_prompt_has_as_many_tokens_as_its_answer_counts(subject):
    (chunk,) = run(subject, subject.call(1, "hello there"))
    (one,) = read_by_tokenizer(subject, Operation.RENDER, "hello there", strings=True)
    assert len(one["ids"]) == len(one["strings"]) == chunk.tokens.prompt


def test_text_comes_back_from_its_tokens(subject):
    (one,) = read_by_tokenizer(subject, Operation.TOKENIZE, "hello there", special=False)
    ids = [token["id"] for token in one["tokens"]]
    if subject.name == "null":
        with fails_with(BadInput, lacks="tokenizer"):
            read_by_tokenizer(subject, Operation.DETOKENIZE, ids)
        return
    (other,) = read_by_tokenizer(subject, Operation.DETOKENIZE, ids)
    assert other["text"].strip() == "hello there"
    with fails_with(BadInput, index=1, token=1 << 40):
        read_by_tokenizer(subject, Operation.DETOKENIZE, ids, [1 << 40])


def test_the_tokenizer_of_a_model_that_is_not_attached_is_not_found(subject):
    with fails_with(ModelNotFound, name="nobody:1"):
        subject.engine.tokenizer_of("nobody:1")


def test_a_model_that_is_not_attached_is_not_found(subject):
    with pytest.raises(ModelNotFound):
        subject.engine.add(Call(1, "nobody:1", subject.task, ("hello",)))
    assert subject.engine.is_idle


def test_a_task_that_it_does_not_do_is_refused_with_those_that_it_does(subject):
    if subject.name == "null":
        pytest.skip("null does every task")
    with pytest.raises(WrongTask) as caught:
        subject.engine.add(Call(1, subject.base.manifest.ref, subject.wrong, ("hello",)))
    assert subject.task in caught.value.detail["has"]


def test_a_call_without_inputs_is_refused(subject):
    if subject.name == "null":
        pytest.skip("null answers nothing with nothing")
    with pytest.raises(BadInput):
        subject.engine.add(Call(1, subject.base.manifest.ref, subject.task, ()))
    assert subject.engine.is_idle


@pytest.mark.parametrize("bad", [7, "", None, {"text": 1}], ids=repr)
def test_an_input_that_is_none_is_refused_and_leaves_nothing_behind(subject, bad):
    with pytest.raises(BadInput):
        subject.engine.add(subject.call(1, "fine", bad))
    assert subject.engine.is_idle


def test_a_fault_is_its_own_calls_and_its_neighbours_are_answered(subject):
    wrong = {"generate": {"temperature": "warm"}, "classify": {"top_k": 0}}.get(subject.task, {})
    answered = {1, 3}
    for call in (subject.call(1, "one"), subject.call(2, "two", **wrong), subject.call(3, "three")):
        try:
            subject.engine.add(call)
        except LlmosError:
            assert call.call_id == 2
    chunks = {chunk.call_id: chunk for chunk in drain(subject.engine)}
    assert answered <= chunks.keys()
    assert all(chunks[i].fault is None for i in answered)
    if wrong and 2 in chunks:
        assert chunks[2].fault.code == "bad_input"


def test_a_cancelled_call_says_nothing_more_and_its_neighbour_is_answered(subject):
    for call in (subject.call(1, "never mind"), subject.call(2, "but this")):
        subject.engine.add(call)
    subject.engine.cancel(1)
    assert {chunk.call_id for chunk in drain(subject.engine)} == {2}


def test_cancelling_what_is_unknown_or_over_changes_nothing(subject):
    subject.engine.cancel(99)
    run(subject, subject.call(1))
    subject.engine.cancel(1)
    assert subject.engine.is_idle


def test_a_model_that_cannot_be_attached_is_refused_and_the_base_stays(subject, tmp_path):
    if subject.name == "null":
        pytest.skip("null attaches everything")
    manifest = Manifest("mine", 1, Kind.MODEL, "classify", (), base=subject.base.manifest.ref, method="magic")
    with fails_with(BadInput, model="mine:1"):
        subject.engine.attach(ModelPath(manifest, str(tmp_path), base=subject.base))
    assert outputs(run(subject, subject.call(1)))


def test_detaching_what_is_unknown_or_the_base_changes_nothing(subject):
    subject.engine.detach("nobody:1")
    if subject.name != "null":
        subject.engine.detach(subject.base.manifest.ref)
    assert outputs(run(subject, subject.call(1)))


def test_its_figures_are_numbers_by_name(subject):
    run(subject, subject.call(1))
    assert all(isinstance(name, str) and value == float(value) for name, value in subject.engine.figures.items())


# Those that write.


def drawn(subject):
    """How many tokens are drawn where draws are compared. llama.cpp keeps keys and values in half precision: whom a
    pass was shared with changes their last digits, and a draw that is close to two tokens then takes the other."""
    return 1 if subject.name == "llamacpp" else 8


def test_a_streamed_answer_adds_up_to_the_whole_one_and_its_last_piece_comes_once(writing):
    (whole,) = outputs(run(writing, writing.call(1, "stream me")))
    chunks = run(writing, writing.call(2, "stream me", stream=True))
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert "".join(chunk.outputs[0]["text"] for chunk in chunks) == whole["text"]
    assert [chunk.outputs[0]["finish_reason"] is not None for chunk in chunks] == [c.is_last for c in chunks]
    assert chunks[-1].tokens.completion > 0


def test_a_stream_that_is_cancelled_frees_its_place(writing):
    writing.engine.add(writing.call(1, "on and on", stream=True, max_tokens=100))
    writing.engine.step()
    writing.engine.cancel(1)
    assert writing.engine.is_idle
    assert writing.engine.figures.get("live", 0) == 0
    assert outputs(run(writing, writing.call(2, "next")), 2)


def test_n_answers_come_for_each_input_in_order(writing):
    most = drawn(writing)
    said = writing.call(1, "a", "b", n=2, temperature=1.0, seed=5, max_tokens=most)
    found = outputs(run(writing, said))
    assert len(found) == 4
    alone = writing.call(1, "b", n=1, temperature=1.0, seed=6, max_tokens=most)
    assert alike(writing, outputs(run(writing, alone)), found[3:])


def test_the_same_seed_says_the_same_and_it_is_no_others_business(writing):
    most = drawn(writing)
    calls = [writing.call(i, text, temperature=1.0, seed=i, max_tokens=most) for i, text in enumerate(TEXTS)]
    together = run(writing, *calls)
    for call in calls:
        assert alike(writing, outputs(together, call.call_id), outputs(run(writing, call), call.call_id))


def test_each_token_said_has_its_probability_where_that_is_asked(writing):
    (got,) = outputs(run(writing, writing.call(1, "hello", logprobs=True, top_logprobs=1, max_tokens=4)))
    assert 1 <= len(got["logprobs"]) <= 4
    assert all(one["logprob"] <= 0 and len(one["top_logprobs"]) == 1 for one in got["logprobs"])
    (got,) = outputs(run(writing, writing.call(1, "hello", max_tokens=4)))
    assert "logprobs" not in got


def test_an_answer_ends_before_a_stop_string(writing):
    answers = {text: outputs(run(writing, writing.call(1, text)))[0] for text in TEXTS}
    said = {text: [c for c in one["text"][1:] if c.isascii() and c.isalnum()] for text, one in answers.items()}
    text = next(text for text in TEXTS if said[text])
    whole, stop = answers[text], said[text][0]
    (got,) = outputs(run(writing, writing.call(1, text, stop=[stop])))
    if writing.name != "null":  # which says words of a list, and hears of no stops
        assert got["text"] == whole["text"][: whole["text"].index(stop)]
        assert got["finish_reason"] == "stop"


def test_an_answer_is_as_long_as_there_is_room_for_whatever_is_asked(writing):
    (said,) = outputs(run(writing, writing.call(1, "y" * 100, max_tokens=100_000)))
    assert said["finish_reason"] in ("stop", "length")


def test_a_prompt_that_there_is_no_room_for_is_refused_with_the_numbers(writing):
    if writing.name == "null":
        pytest.skip("null has no limit")
    with pytest.raises(LlmosError) as caught:
        writing.engine.add(writing.call(1, "y" * 1000, max_tokens=1))
    assert caught.value.code == "too_long"
    assert caught.value.detail["size"] > caught.value.detail["limit"]


@pytest.mark.parametrize("name", [name for name in DRIVERS if name not in ("null", "pytorch")])
def test_a_base_in_another_format_is_refused_with_who_can(name, tmp_path):
    base = _based("odd", "chat", tmp_path, "model.safetensors" if name != "vllm" else "model.gguf")
    with fails_with(BadInput, key="engine", value=name, model="odd:1"):
        driver(name).load(base, "cpu0", "float32", 1)
