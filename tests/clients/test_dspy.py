"""dspy: a program's answers, and its fine-tuning by OpenAI's provider, unchanged but for the address."""

import dspy
import openai
import pytest
from dspy.clients.utils_finetune import TrainDataFormat

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What is the colour of box {i}?"},
            {"role": "assistant", "content": f"Box {i} is {('red', 'blue')[i % 2]}."},
        ]
    }
    for i in range(20)
]


@pytest.fixture
def model(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path))
    monkeypatch.setattr(openai, "base_url", f"{server.v1}/")  # its provider uses openai's own module
    monkeypatch.setattr(openai, "api_key", "none")
    monkeypatch.setattr(openai, "timeout", server.timeout_s)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    where = {"api_base": server.v1, "api_key": "none", "timeout": server.timeout_s}
    return dspy.LM("openai/smollm2", **where, max_tokens=80, temperature=0)


def test_a_model_answers_its_prompts(model):
    (said,) = model(messages=[{"role": "user", "content": "Say hello."}])
    assert said["text"] if isinstance(said, dict) else said


def test_a_model_is_fine_tuned_and_answers(model, server):
    job = model.finetune(ROWS, TrainDataFormat.CHAT, {"n_epochs": 1, "batch_size": 4})
    job.thread.join(server.timeout_s)
    made = job.result(timeout=1)
    assert not isinstance(made, Exception), made
    tuned = made.copy(model=f"openai/{made.model}")  # litellm knows the provider of a bare name only if it is OpenAI's
    (said,) = tuned(messages=[{"role": "user", "content": "What is the colour of box 3?"}], max_tokens=12)
    assert said
