"""A refusal of one input of many names it as its route calls it; too long is what OpenAI's clients know it as."""

import pytest

from llmos.abi.error import TooLong

HELLO = {"role": "user", "content": "hi"}


class Short:
    """An engine in whose model nothing fits."""

    def add(self, call):
        raise TooLong("The text has 9 tokens; the model takes 8. Shorten it", size=9, limit=8, index=1)

    def cancel(self, call_id):
        """Nothing is in hand."""


@pytest.mark.parametrize(
    ("path", "body", "param", "said"),
    [
        ("embeddings", {"model": "minilm", "input": ["a", "b", "", "c"]}, "input[2]", "input[2]: The text is empty."),
        ("embeddings", {"model": "minilm", "input": ""}, "input", "The text is empty."),
        ("embeddings", {"model": "minilm", "input": ["a", None]}, "input[1]", "input[1]: This is no text: None."),
        ("embeddings", {"model": "minilm", "input": ["a", "b", 5]}, "input[2]", "input[2]: This is no text: 5."),
        ("embeddings", {"model": "minilm", "input": ["a", ["b"]]}, "input[1]", "input[1]: This is no text: ['b']."),
        ("embeddings", {"model": "minilm", "input": [{"text": "a"}]}, "input[0]", "input[0]: This is no text: "),
        ("embeddings", {"model": "minilm", "input": [True]}, "input[0]", "input[0]: This is no text: True."),
        ("embeddings", {"model": "minilm", "input": [[1], [2]]}, "input", "input must be a string or a list"),
        ("tasks/classify", {"model": "support", "inputs": ["a", " "]}, "inputs[1]", "inputs[1]: The text is empty."),
        ("tasks/classify", {"model": "support", "inputs": [""]}, "inputs[0]", "inputs[0]: The text is empty."),
        ("tasks/classify", {"model": "support", "input": 7}, "input", "The input is no text: 7."),
        ("tasks/similarity", {"model": "minilm", "inputs": [["a", "b"], ["a", ""]]}, "inputs[1]", "inputs[1]: "),
        (
            "tasks/rerank",
            {"model": "minilm", "input": {"query": "a", "documents": ["b", ""]}},
            "input.documents[1]",
            "documents[1] is ''.",
        ),
        (
            "tasks/rerank",
            {"model": "minilm", "inputs": [{"query": "a", "documents": ["b", ""]}]},
            "inputs[0].documents[1]",
            "inputs[0]: documents[1] is ''.",
        ),
        ("completions", {"model": "smollm2", "prompt": ["a", ""]}, "prompt[1]", "prompt[1]: The prompt is empty."),
        ("completions", {"model": "smollm2", "prompt": ""}, "prompt", "The prompt is empty."),
        ("completions", {"model": "smollm2", "prompt": ["a", None]}, "prompt[1]", "prompt[1]: This is no text: None."),
        ("completions", {"model": "smollm2", "prompt": ["a", 3]}, "prompt[1]", "prompt[1]: This is no text: 3."),
        ("completions", {"model": "smollm2", "prompt": []}, "prompt", "prompt is an empty list."),
        ("completions", {"model": "smollm2", "prompt": [["a"]]}, "prompt[0]", "prompt[0]: This is no text: ['a']."),
        (
            "chat/completions",
            {"model": "smollm2", "messages": [HELLO, {"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[1]",
            "messages[1].content is",
        ),
        ("chat/completions", {"model": "smollm2", "messages": []}, "messages", "The input has no messages"),
        (
            "tasks/chat",
            {"model": "smollm2", "inputs": ["hi", {"messages": [HELLO, {"role": "cook"}]}]},
            "inputs[1].messages[1]",
            "inputs[1]: messages[1] is",
        ),
    ],
)  # fmt: skip
def test_which_of_the_inputs_is_wrong_is_said(ask, path, body, param, said):
    for stream in (False, True) if "model" in body and body["model"] == "smollm2" else (False,):
        answer = ask("POST", f"/v1/{path}", body | ({"stream": True} if stream else {}))
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param)
        assert error["message"].startswith(said)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("embeddings", {"model": "minilm", "input": ["a", "b"]}, "input[1]"),
        ("completions", {"model": "smollm2", "prompt": ["a", "b"]}, "prompt[1]"),
        ("completions", {"model": "smollm2", "prompt": ["a", "b"], "stream": True}, "prompt[1]"),
        ("chat/completions", {"model": "smollm2", "messages": [HELLO]}, "messages"),
        ("chat/completions", {"model": "smollm2", "messages": [HELLO], "stream": True}, "messages"),
    ],
)
def test_too_long_for_the_model_is_what_openai_calls_it(kernel, ask, path, body, param):
    kernel.calls.engine = Short()
    answer = ask("POST", f"/v1/{path}", body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param)
    assert error["detail"]["limit"] == 8
    assert "This model's maximum context length is 8 tokens. The text has 9 tokens" in error["message"]


class Wide:
    """An engine that no frame reaches."""

    def add(self, call):
        raise TooLong("A message of 90 bytes is over the limit of 80", size=90, limit=80, unit="bytes")

    def cancel(self, call_id):
        """Nothing is in hand."""


def test_too_many_bytes_are_no_matter_of_the_context(kernel, ask):
    kernel.calls.engine = Wide()
    answer = ask("POST", "/v1/embeddings", {"model": "minilm", "input": "a"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], "context" in error["message"]) == (413, "too_long", False)


def test_too_long_is_413_on_our_own_routes(kernel, ask):
    kernel.calls.engine = Short()
    answer = ask("POST", "/v1/tasks/embed", {"model": "minilm", "inputs": ["a", "b"]})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (413, "too_long", "inputs[1]")
