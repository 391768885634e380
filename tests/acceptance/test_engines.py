"""Other engines under the real daemon: llama.cpp with the real SmolLM2, beside pytorch on the same base, and killed."""

import os
import signal
import threading

import openai
import pytest

from llmos.testing.errors import answers_with

pytestmark = pytest.mark.acceptance

pytest.importorskip("xllamacpp", reason="the extra gguf is not installed")

BY = {"engine": "llamacpp"}
HELLO = [{"role": "user", "content": "Say hello."}]


def serving(box, engine):
    (one,) = [p for p in box.processes() if p.spec.program == "serve" and p.spec.args["engine"] == engine]
    return one


def test_llama_cpp_answers_beside_pytorch_streams_and_comes_back_from_a_kill(new_house, starters):
    assert starters is not None, "The starter models could not be pulled"
    up = new_house("up", "--set", "threads=1", "--set", "kv_bytes=67108864")
    assert up.returncode == 0, up.stderr
    with (
        new_house.client() as box,
        openai.OpenAI(base_url=f"{new_house.url}/v1", api_key="none", max_retries=0, timeout=300) as client,
    ):
        chat = client.chat.completions.create
        whole = chat(model="smollm2", messages=HELLO, temperature=0, max_tokens=12, extra_body=BY)
        stream = chat(
            model="smollm2",
            messages=HELLO,
            temperature=0,
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=BY,
        )
        *pieces, last = list(stream)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content
        assert last.usage == whole.usage
        done = new_house(
            "chat", "smollm2", "Say hello.", "--temperature", "0", "--max-tokens", "12", "--engine", "pytorch"
        )
        assert done.returncode == 0, done.stderr
        titles = {p.spec.title for p in box.processes() if p.spec.program == "serve"}
        assert titles == {"serve smollm2:1", "serve smollm2:1 with llamacpp"}
        found = serving(box, "llamacpp")
        assert list((new_house.home / "scratch" / str(found.pid)).glob("*/s.sock")), "what is cleared after a kill"
        assert found.usage.rss_bytes - found.usage.shared_bytes < found.spec.need_bytes

        stream = iter(chat(model="smollm2", messages=HELLO, max_tokens=900, stream=True, extra_body=BY))
        next(stream)
        answers = []
        said = {"model": "smollm2", "messages": HELLO, "temperature": 0, "max_tokens": 12, "extra_body": BY}
        asking = threading.Thread(target=lambda: answers.append(chat(**said)))
        os.kill(serving(box, "llamacpp").os_pid, signal.SIGKILL)
        asking.start()
        with pytest.raises(openai.APIError) as died:
            list(stream)
        assert died.value.code == "process_died"
        asking.join()
        assert answers[0].choices[0].message.content == whole.choices[0].message.content
        assert serving(box, "llamacpp").restarts == 1
        with answers_with(
            openai.BadRequestError, "bad_input", value="onnx", model="smollm2:1", expected=["pytorch", "llamacpp"]
        ):
            chat(model="smollm2", messages=HELLO, extra_body={"engine": "onnx"})
        with answers_with(openai.BadRequestError, "bad_input", key="engine", value="vllm"):
            chat(model="smollm2", messages=HELLO, extra_body={"engine": "vllm"})
