"""/v1/completions with `echo` and with token ids, as lm-evaluation-harness asks; the null engine's tokens are words."""

import json

import pytest

SAID = {
    "model": "smollm2",
    "prompt": "once upon  a time",
    "echo": True,
    "logprobs": 1,
    "max_tokens": 1,
    "temperature": 0,
}


def test_a_prompt_comes_back_with_its_own_tokens_in_front(ask):
    (choice,) = ask("POST", "/v1/completions", SAID).json()["choices"]
    told = choice["logprobs"]
    assert told["tokens"][:4] == ["once", " upon", "  a", " time"]
    assert told["text_offset"] == [0, 4, 9, 12, 17]
    assert choice["text"] == "".join(told["tokens"])
    assert (told["token_logprobs"][0], told["top_logprobs"][0]) == (None, None)
    assert all(isinstance(one, float) for one in told["token_logprobs"][1:])
    assert [len(one) for one in told["top_logprobs"][1:]] == [1] * 4


def test_a_stream_has_the_same_columns(ask):
    (whole,) = ask("POST", "/v1/completions", {**SAID, "max_tokens": 4}).json()["choices"]
    text = ask("POST", "/v1/completions", {**SAID, "max_tokens": 4, "stream": True}).text.replace(
        "data: [DONE]\n\n", ""
    )
    choices = [one["choices"][0] for one in map(_data, text.split("\n\n")) if one]
    assert "".join(one["text"] for one in choices) == whole["text"]
    told = [one["logprobs"] for one in choices if one["logprobs"]]
    for name, column in whole["logprobs"].items():
        assert [value for one in told for value in one[name]] == column


def _data(block):
    return json.loads(block.partition("data: ")[2]) if block else None


@pytest.mark.parametrize(
    ("prompt", "inputs"),
    [
        ([1, 2, 3], [{"prompt": [1, 2, 3]}]),
        ([[1, 2], [3]], [{"prompt": [1, 2]}, {"prompt": [3]}]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_prompts_are_texts_or_token_ids(ask, kernel, prompt, inputs):
    made = ask("POST", "/v1/completions", {**SAID, "prompt": prompt}).json()
    assert [choice["index"] for choice in made["choices"]] == list(range(len(inputs)))
    assert list(kernel.calls.asked[-1].inputs) == inputs
    assert kernel.calls.asked[-1].params["echo"] is True


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        ("/v1/completions", {"echo": False, "max_tokens": 0}, "max_tokens"),
        ("/v1/completions", {"prompt": ["a", 3]}, "prompt[1]"),
        ("/v1/completions", {"prompt": [[]]}, "prompt[0]"),
        ("/v1/completions", {"echo": "yes"}, "echo"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "echo": True}, "echo"),
    ],
)
def test_what_is_no_echo_is_refused_by_its_name(ask, path, more, param):
    body = {"model": "smollm2", **more} if "chat" in path else {**SAID, **more}
    refused = ask("POST", path, body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_no_other_task_echoes(ask):
    said = {"model": "smollm2", "input": "a", "params": {"echo": True}}
    assert ask("POST", "/v1/tasks/chat", said).json()["error"]["detail"]["key"] == "echo"
    assert ask("POST", "/v1/tasks/generate", said).json()["outputs"][0]["text"].startswith("a")
