"""The vLLM adapter against a small server of its shape: started, watched and ended as the real one is to be."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmos.abi.call import Call
from llmos.abi.error import BadInput, Missing, ProcessDied
from llmos.abi.frame import ModelPath
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.engines.vllm import VllmEngine
from llmos.engines.vllm.engine import arguments, weights_bytes
from llmos.engines.vllm.writer import body_of
from llmos.tasks.generate import Sampling
from llmos.tasks.grammar import Grammar
from llmos.testing import tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

FAKE = f"{sys.executable} -m llmos.testing.openai_server"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tiny.write(tmp_path_factory.mktemp("llama"), "llama")
    files = (File("model.safetensors", "0" * 64, 1, Part.WEIGHTS),)
    options = {"tasks": ["chat", "generate"], "max_tokens": 128}
    return ModelPath(Manifest("talk", 1, Kind.BASE, "chat", files, options=options), str(folder))


@pytest.fixture
def engine(base):
    one = VllmEngine(command=FAKE)
    one.load(base, "cuda0", "bfloat16", 0)
    yield one
    one.close()


def generate(call_id=1, prompt="hello", **params):
    return Call(call_id, "talk:1", "generate", (prompt,), {"temperature": 0, "max_tokens": 8} | params)


def drain(engine):
    chunks = []
    while not engine.is_idle:
        chunks += engine.step()
    return chunks


def test_the_server_that_dies_is_the_engine_s_end_also_when_nothing_is_asked(engine):
    process = engine.server.process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not engine.is_idle
    with fails_with(ProcessDied, exit_code=-9):
        engine.step()


def test_closing_the_engine_ends_the_server(base):
    one = VllmEngine(command=FAKE)
    one.load(base, "cuda0", "bfloat16", 0)
    process = one.server.process
    one.close()
    assert process.returncode == -signal.SIGTERM


def test_only_who_has_the_key_may_ask(engine):
    engine.server.key = "another"
    engine.add(generate())
    (chunk,) = drain(engine)
    assert (chunk.fault.code, "401" in chunk.fault.message) == ("unavailable", True)


def test_what_the_server_refuses_is_that_call_s_fault(engine):
    engine.add(generate(1, regex="["))
    engine.add(generate(2))
    chunks = {chunk.call_id: chunk for chunk in drain(engine)}
    assert chunks[1].fault.code == "bad_input"
    assert "pattern is not valid" in chunks[1].fault.message
    assert chunks[2].fault is None


def test_a_grammar_is_refused_with_what_it_can_do(engine):
    with fails_with(BadInput, key="grammar"):
        engine.add(generate(grammar='start: "yes"'))


def test_a_chat_goes_through_the_template_of_the_folder(engine):
    engine.add(Call(1, "talk:1", "chat", ({"messages": [{"role": "user", "content": "hi"}]},), {"max_tokens": 3}))
    (chunk,) = drain(engine)
    assert chunk.outputs[0]["message"]["role"] == "assistant"
    assert chunk.tokens.prompt == len("<user>hi<assistant>")


def test_a_server_that_ends_before_it_is_ready_says_how(base, tmp_path):
    elsewhere = ModelPath(base.manifest, str(tmp_path))
    (tmp_path / "tokenizer.json").write_bytes((Path(base.folder) / "tokenizer.json").read_bytes())
    with fails_with(ProcessDied, exit_code=1):
        VllmEngine(command=FAKE).load(elsewhere, "cuda0", "bfloat16", 0)


def test_a_command_that_is_absent_is_named_with_what_to_do(base):
    with fails_with(Missing, extra="vllm", command="no-such-vllm"):
        VllmEngine(command="no-such-vllm").load(base, "cuda0", "bfloat16", 0)


def test_without_a_gpu_it_says_that_it_needs_one(base):
    with fails_with(BadInput, key="engine", device="cpu0"):
        VllmEngine(command=FAKE).load(base, "cpu0", "float32", 0)


def test_the_weights_are_counted_in_the_dtype_they_are_served_in(base):
    path = Path(base.folder) / "model.safetensors"
    assert weights_bytes(path, "float32") == 2 * weights_bytes(path, "bfloat16") > 0


def test_the_command_line_says_what_may_be_used(base):
    said = arguments(base, "bfloat16", 128, 1 << 30)
    assert said[:2] == ["serve", base.folder]
    pairs = dict(zip(said[2::2], said[3::2], strict=True))
    assert pairs["--served-model-name"] == "talk:1"
    assert pairs["--kv-cache-memory-bytes"] == str(1 << 30)


def test_what_a_request_says_is_said_in_its_words():
    said = Sampling(0.5, 0.0, 7, seed=3, logit_bias=((5, 1.0),), top_logprobs=2, grammar=Grammar("regex", "[0-9]"))
    body = body_of("talk:1", [1], said, "mine")
    assert body["logit_bias"] == {"5": 1.0}
    assert body["structured_outputs"] == {"regex": "[0-9]"}
    assert (body["seed"], body["logprobs"], body["cache_salt"]) == (3, 2, "mine")
    assert 0 < body["top_p"] < 1e-3
