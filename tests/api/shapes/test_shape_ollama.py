"""Ollama's interface: chats and prompts as JSON lines, embeddings, and what models there are."""

import asyncio
import json

import pytest

CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "hello"}], "options": {"num_predict": 5}}
PROMPT = {"model": "smollm2", "prompt": "hello", "options": {"num_predict": 5}}


def lines_of(answer):
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/api/chat", CHAT, lambda one: one["message"]["content"]),
        ("/api/generate", PROMPT, lambda one: one["response"]),
        ("/api/generate", {**PROMPT, "raw": True}, lambda one: one["response"]),
    ],
)
def test_a_stream_adds_up_to_the_whole_answer(ask, path, body, text):
    whole = ask("POST", path, {**body, "stream": False}).json()
    lines = lines_of(ask("POST", path, body))
    assert "".join(map(text, lines)) == text(whole) != ""
    assert [one["done"] for one in lines] == [False] * (len(lines) - 1) + [True]
    for last in (lines[-1], whole):
        assert (last["done_reason"], last["model"], last["eval_count"]) == ("length", "smollm2:1", 5)
        assert last["prompt_eval_count"] > 0
        assert last["total_duration"] > 0


def test_a_prompt_is_a_message_of_the_user_unless_it_is_raw(ask, kernel):
    ask("POST", "/api/generate", {**PROMPT, "system": "Be brief.", "stream": False})
    ask("POST", "/api/generate", {**PROMPT, "raw": True, "stream": False})
    first, second = kernel.calls.asked
    assert first.inputs[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    ]
    assert (first.task, second.task, second.inputs) == ("chat", "generate", ("hello",))


def test_options_have_our_names_in_the_call(ask, kernel):
    options = {"num_predict": -1, "repeat_penalty": 1.5, "stop": ["."], "seed": 3, "top_k": 4, "num_ctx": 2048}
    ask("POST", "/api/chat", {**CHAT, "options": options, "keep_alive": "5m", "think": False, "stream": False})
    params = kernel.calls.asked[0].params
    assert params == {
        "max_tokens": 2**31 - 1, "repetition_penalty": 1.5, "stop": ["."], "seed": 3, "top_k": 4,
    }  # fmt: skip


def test_texts_are_embedded_in_both_forms(ask):
    own = ask("POST", "/v1/tasks/embed", {"model": "minilm", "inputs": ["a", "b"]}).json()["outputs"]
    answer = ask("POST", "/api/embed", {"model": "minilm", "input": ["a", "b"], "truncate": True}).json()
    assert answer["embeddings"] == [one["vector"] for one in own]
    assert answer["prompt_eval_count"] == 2
    earlier = ask("POST", "/api/embeddings", {"model": "minilm", "prompt": "a", "options": {"num_ctx": 9}}).json()
    assert earlier["embedding"] == own[0]["vector"]


def test_models_are_listed_and_shown(ask):
    names = [one["name"] for one in ask("GET", "/api/tags").json()["models"]]
    assert names == ["minilm:1", "smollm2:1", "support:2", "ner:1"]
    shown = ask("POST", "/api/show", {"model": "smollm2"}).json()
    assert shown["capabilities"] == ["completion"]
    assert ask("POST", "/api/show", {"name": "support"}).json()["details"]["parent_model"] == "minilm:1"
    assert ask("GET", "/api/ps").json() == {"models": []}
    assert ask("GET", "/api/version").json()["version"]


@pytest.mark.parametrize(
    ("path", "change", "key"),
    [
        ("/api/chat", {"think": True}, "think"),
        ("/api/chat", {"format": "xml"}, "format"),
        ("/api/chat", {"options": {"mirostat": 1}}, "options.mirostat"),
        ("/api/chat", {"options": {"anything": 1}}, "options.anything"),
        ("/api/chat", {"options": {"temperature": 9}}, "options.temperature"),
        ("/api/chat", {"options": {"num_predict": 0}}, "options.num_predict"),
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aa"]}]}, "messages[0].images"),
        ("/api/generate", {"context": [1, 2]}, "context"),
        ("/api/generate", {"raw": True, "system": "x"}, "system"),
        ("/api/generate", {"suffix": "x"}, "suffix"),
        ("/api/embed", {"input": []}, "input"),
    ],
)
def test_what_would_be_dropped_is_refused_by_its_name(ask, path, change, key):
    body = {"/api/chat": CHAT, "/api/generate": PROMPT, "/api/embed": {"model": "minilm"}}[path]
    refused = ask("POST", path, {**body, **change})
    assert (refused.status_code, refused.json()["detail"]["key"]) == (400, key)
    assert isinstance(refused.json()["error"], str)


def test_an_unknown_model_is_not_found_in_their_shape(ask):
    refused = ask("POST", "/api/chat", {**CHAT, "model": "nobody"})
    assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")


def test_the_call_of_a_client_that_left_is_cancelled(kernel, leave):
    async def ask_and_leave():
        kernel.calls.gate = asyncio.Event()
        await leave(kernel, "POST", "/api/chat", CHAT, lambda: kernel.calls.asked)

    asyncio.run(ask_and_leave())
    assert kernel.calls.cancelled == [1]


@pytest.mark.parametrize(
    ("path", "body", "text", "task"),
    [
        ("/api/generate", {}, {"response": ""}, "chat"),
        ("/api/generate", {"prompt": "", "stream": False, "keep_alive": "5m"}, {"response": ""}, "chat"),
        ("/api/chat", {"messages": []}, {"message": {"role": "assistant", "content": ""}}, "chat"),
        ("/api/chat", {"keep_alive": -1}, {"message": {"role": "assistant", "content": ""}}, "chat"),
    ],
)
def test_without_a_prompt_the_model_is_loaded_and_nothing_computed(ask, kernel, path, body, text, task):
    answer = ask("POST", path, {"model": "smollm2", **body}).json()
    (call,) = kernel.calls.asked
    assert (call.operation, call.task, call.inputs) == ("load", task, ())
    assert text.items() <= answer.items()
    assert (answer["model"], answer["done"], answer["done_reason"]) == ("smollm2:1", True, "load")


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_a_model_that_does_not_write_is_not_loaded_for_prompts(ask, path):
    refused = ask("POST", path, {"model": "support"})
    assert (refused.status_code, refused.json()["code"]) == (400, "wrong_task")


@pytest.mark.parametrize("zero", [0, 0.0, "0", "0s", "-0m", "0.0ms"])
def test_keep_alive_zero_without_a_prompt_unloads_the_model(ask, kernel, zero):
    for path in ("/api/generate", "/api/chat"):
        answer = ask("POST", path, {"model": "smollm2", "keep_alive": zero}).json()
        assert (answer["done"], answer["done_reason"]) == (True, "unload")
    assert (kernel.calls.asked, kernel.calls.unloaded) == ([], ["smollm2:1"] * 2)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {**CHAT, "stream": False}),
        ("/api/chat", CHAT),
        ("/api/generate", {**PROMPT, "raw": True}),
        ("/api/embed", {"model": "minilm", "input": "a"}),
        ("/api/embeddings", {"model": "minilm", "prompt": "a"}),
    ],
)
def test_keep_alive_zero_unloads_the_model_after_its_answer(ask, kernel, path, body):
    for keep_alive in (None, "5m", 300, -1, "1h0m", "never"):
        assert ask("POST", path, {**body, "keep_alive": keep_alive}).status_code == 200
    assert kernel.calls.unloaded == []
    assert ask("POST", path, {**body, "keep_alive": 0}).status_code == 200
    assert kernel.calls.unloaded == [f"{body['model']}:1"]
