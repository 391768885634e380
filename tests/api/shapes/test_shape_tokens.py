"""Tokens of texts in TEI's shape and in vLLM's; the null engine's are words."""

import pytest

SAID = [{"role": "user", "content": "hello there"}]


def test_a_text_or_several_come_as_tokens_with_their_places(ask):
    for path, said in (("/tokenize", {}), ("/tei/minilm/tokenize", {}), ("/tokenize", {"model": "minilm:1"})):
        (tokens,) = ask("POST", path, {"inputs": "hello  you", **said}).json()
        assert [(one["text"], one["start"], one["stop"], one["special"]) for one in tokens] == [
            ("hello", 0, 5, False),
            ("you", 7, 10, False),
        ]
    both = ask("POST", "/tokenize", {"inputs": ["hello  you", "you"], "add_special_tokens": False}).json()
    assert both == [tokens, [{**tokens[1], "start": 0, "stop": 3}]]


def test_a_prompt_comes_as_vllm_has_it(ask):
    (tokens,) = ask("POST", "/tokenize", {"model": "minilm", "inputs": "hello you"}).json()
    said = {"model": "smollm2", "prompt": "hello you"}
    made = ask("POST", "/tokenize", said).json()
    assert made.pop("max_model_len") > 0
    assert made == {"count": 2, "tokens": [one["id"] for one in tokens], "token_strs": None}
    named = ask("POST", "/tokenize", {**said, "return_token_strs": True}).json()["token_strs"]
    assert named == [f"<{one}>" for one in made["tokens"]]


def test_a_conversation_counts_with_its_template_in_both_shapes(ask):
    made = ask("POST", "/tokenize", {"model": "smollm2", "messages": SAID, "return_token_strs": True}).json()
    assert (made["count"], len(made["tokens"]), len(made["token_strs"])) == (3, 3, 3)
    counted = ask("POST", "/v1/messages/count_tokens", {"model": "smollm2", "messages": SAID})
    assert (counted.status_code, counted.json()) == (200, {"input_tokens": 3})
    whole = ask("POST", "/v1/messages", {"model": "smollm2", "messages": SAID, "max_tokens": 4}).json()
    assert whole["usage"]["input_tokens"] == 3


def test_system_and_tools_are_counted_too(ask):
    tool = {"name": "weather", "description": "The weather", "input_schema": {"type": "object"}}
    said = {"model": "smollm2", "messages": SAID, "system": "Be brief.", "tools": [tool]}
    assert ask("POST", "/v1/messages/count_tokens", said).json()["input_tokens"] > 3


def test_a_count_computes_nothing(ask, kernel):
    ask("POST", "/v1/messages/count_tokens", {"model": "smollm2", "messages": SAID})
    assert kernel.calls.asked[-1].operation == "render"
    assert kernel.calls.engine.is_idle


def test_a_model_without_a_tokenizer_says_so(ask):
    for path, said in (("/detokenize", {"tokens": [1]}), ("/tei/minilm/detokenize", {"ids": [[1], [2]]})):
        refused = ask("POST", path, said | ({} if "tei" in path else {"model": "smollm2"}))
        assert (refused.status_code, refused.json()["detail"]["lacks"]) == (400, "tokenizer")
        assert "has no tokenizer" in refused.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/tokenize", {"model": "minilm"}, "inputs"),
        ("/tokenize", {"model": "minilm", "inputs": "a", "prompt": "b"}, "inputs"),
        ("/tokenize", {"model": "minilm", "inputs": []}, "inputs"),
        ("/tokenize", {"model": "minilm", "inputs": ["a", 3]}, "inputs[1]"),
        ("/tokenize", {"model": "minilm", "inputs": "a", "prompt_name": "query"}, "prompt_name"),
        ("/tokenize", {"model": "smollm2", "messages": SAID, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"model": "smollm2", "messages": SAID, "add_generation_prompt": False}, "add_generation_prompt"),
        ("/detokenize", {"model": "smollm2", "tokens": []}, "tokens"),
        ("/detokenize", {"model": "smollm2", "ids": [1], "tokens": [1]}, "ids"),
        ("/detokenize", {"model": "smollm2", "ids": ["a", [1]]}, "ids[0]"),
        ("/detokenize", {"model": "smollm2", "tokens": [1, -1]}, "tokens"),
    ],
)
def test_what_is_no_text_or_no_token_is_refused_by_its_name(ask, path, body, key):
    refused = ask("POST", path, body)
    assert (refused.status_code, refused.json()["detail"]["key"]) == (400, key)


def test_a_count_of_an_unknown_model_is_anthropic_s_error(ask):
    refused = ask("POST", "/v1/messages/count_tokens", {"model": "nobody", "messages": SAID})
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")


def test_a_tokenizer_is_described_as_vllm_has_it(ask, kernel):
    for path in ("/tokenizer_info", "/tokenizer_info?model=smollm2", "/tei/smollm2/tokenizer_info"):
        card = ask("GET", path).json()
        assert (card["tokenizer_class"], card["eos_token"], card["model"]) == ("WordTokenizer", None, "smollm2:1")
        assert card["model_max_length"] > 0
    assert {call.operation for call in kernel.calls.asked} == {"describe"}
    assert kernel.calls.engine.is_idle
    assert ask("GET", "/tokenizer_info?model=nobody").status_code == 404


def test_several_models_of_one_base_read_the_same_tokens_so_none_has_to_be_named(ask, kernel):
    kernel.teach("boxes", "chat", "smollm2:1")
    assert ask("GET", "/tokenizer_info").json()["model"] == "smollm2:1"
    assert ask("POST", "/tokenize", {"prompt": "hello you"}).json()["count"] == 2
    kernel.teach("other", "chat", None)
    refused = ask("GET", "/tokenizer_info")
    assert (refused.status_code, refused.json()["detail"]["expected"]) == (400, ["smollm2", "boxes", "other"])


def test_a_prompt_with_nothing_added_may_name_a_control_token(ask, kernel):
    for said in ({}, {"add_special_tokens": True}, {"add_special_tokens": False}):
        ask("POST", "/tokenize", {"model": "smollm2", "prompt": "<end>", **said})
    ask("POST", "/tokenize", {"model": "smollm2", "inputs": "<end>", "add_special_tokens": False})
    assert [call.params.get("names") for call in kernel.calls.asked] == [None, None, True, None]
