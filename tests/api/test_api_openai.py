"""The official openai client works unchanged, and what it may not ask is refused rather than ignored."""

import asyncio

import openai
import pytest

from llmos.abi.error import Busy, Conflict, TimedOut, TooLong, Unavailable
from llmos.abi.process import Priority
from llmos.config import Config
from llmos.testing.errors import answers_with
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def kernel():
    return MemoryKernel()


@pytest.fixture(scope="module")
def client(kernel, tmp_path_factory):
    with (
        serving(kernel, Config(tmp_path_factory.mktemp("home"))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_models_are_listed_and_retrieved(client):
    assert "support:2" in [model.id for model in client.models.list()]
    assert client.models.retrieve("support").id == "support"


def test_a_chat_completion_has_a_message_a_reason_and_usage(client):
    done = client.chat.completions.create(model="smollm2", messages=HELLO, max_completion_tokens=3, seed=1, stop="\n")
    (choice,) = done.choices
    assert (choice.message.role, choice.finish_reason, done.usage.completion_tokens) == ("assistant", "length", 3)
    assert (done.object, done.model) == ("chat.completion", "smollm2:1")
    assert done.usage.total_tokens == done.usage.prompt_tokens + 3


def test_a_streamed_chat_says_the_same_and_ends_with_usage(client):
    whole = client.chat.completions.create(model="smollm2", messages=HELLO).choices[0].message.content
    chunks = list(
        client.chat.completions.create(
            model="smollm2", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage.completion_tokens == len(whole.split())
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


def test_completions_answer_each_prompt(client):
    done = client.completions.create(model="smollm2", prompt=["once", "twice"], max_tokens=2, stop=["."])
    assert [choice.index for choice in done.choices] == [0, 1]
    pieces = client.completions.create(model="smollm2", prompt="once", max_tokens=2, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == done.choices[0].text


def test_embeddings_are_the_same_by_default_as_base64_and_as_numbers(client):
    default = client.embeddings.create(model="minilm", input=["hello", "bye"])  # the client asks for base64
    floats = client.embeddings.create(model="minilm", input="hello", encoding_format="float")
    assert len(default.data) == 2
    assert default.data[0].embedding == pytest.approx(floats.data[0].embedding, rel=1e-6)
    assert client.embeddings.create(model="minilm", input="hello", dimensions=32).usage.prompt_tokens > 0


def test_several_answers_are_choices_whole_and_streamed(client):
    done = client.chat.completions.create(model="smollm2", messages=HELLO, n=3, seed=4)
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in done.choices]
    assert len(set(texts)) == 3
    again = client.chat.completions.create(model="smollm2", messages=HELLO, seed=5)
    assert again.choices[0].message.content == texts[1]
    pieces = client.chat.completions.create(model="smollm2", messages=HELLO, n=3, seed=4, stream=True)
    said = ["", "", ""]
    for piece in pieces:
        for choice in piece.choices:
            said[choice.index] += choice.delta.content or ""
    assert said == texts


def test_completions_have_each_prompts_choices_in_order_also_streamed(client):
    asked = {"model": "smollm2", "prompt": ["once", "twice"], "n": 2, "seed": 1, "max_tokens": 3}
    done = client.completions.create(**asked)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    alone = client.completions.create(**{**asked, "prompt": "twice"})
    assert [choice.text for choice in alone.choices] == [choice.text for choice in done.choices[2:]]
    said = ["", "", "", ""]
    for piece in client.completions.create(**asked, stream=True):
        said[piece.choices[0].index] += piece.choices[0].text
    assert said == [choice.text for choice in done.choices]


def test_chat_logprobs_have_an_entry_for_each_token_whole_and_streamed(client):
    asked = {"model": "smollm2", "messages": HELLO, "logprobs": True, "top_logprobs": 2, "max_tokens": 4}
    (choice,) = client.chat.completions.create(**asked).choices
    entries = choice.logprobs.content
    assert "".join(entry.token for entry in entries) == choice.message.content
    assert all(bytes(entry.bytes).decode() == entry.token for entry in entries)
    assert all(len(entry.top_logprobs) == 2 for entry in entries)
    assert all(entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob for entry in entries)
    pieces = client.chat.completions.create(**asked, stream=True)
    told = [piece.choices[0].logprobs for piece in pieces]
    assert [entry for one in told if one is not None for entry in one.content] == entries
    (plain,) = client.chat.completions.create(model="smollm2", messages=HELLO).choices
    assert plain.logprobs is None


def test_completion_logprobs_are_columns_that_go_on_through_a_stream(client):
    asked = {"model": "smollm2", "prompt": "once", "logprobs": 2, "max_tokens": 4}
    (choice,) = client.completions.create(**asked).choices
    told = choice.logprobs
    assert [choice.text[at:].startswith(token) for at, token in zip(told.text_offset, told.tokens, strict=True)]
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == 4
    pieces = [piece.choices[0].logprobs for piece in client.completions.create(**asked, stream=True)]
    assert [at for piece in pieces if piece is not None for at in piece.text_offset] == told.text_offset


def test_penalties_biases_and_our_own_params_are_passed_on(client, kernel):
    extra = {"min_p": 0.1, "top_k": 5, "repetition_penalty": 1.1}
    client.chat.completions.create(
        model="smollm2",
        messages=HELLO,
        presence_penalty=0.5,
        frequency_penalty=-1,
        logit_bias={"5": 10},
        extra_body=extra,
    )
    said = {"presence_penalty": 0.5, "frequency_penalty": -1.0, "logit_bias": {"5": 10.0}}
    assert kernel.calls.asked[-1].params == {**said, **extra}


def test_a_call_has_its_class_and_its_time_on_these_routes_too(client, kernel):
    extra = {"timeout_s": 60, "class": "batch"}
    client.chat.completions.create(model="smollm2", messages=HELLO, extra_body=extra)
    list(client.completions.create(model="smollm2", prompt="once", stream=True, extra_body=extra))
    client.embeddings.create(model="minilm", input="hello", extra_body=extra)
    assert [(call.priority, call.params) for call in kernel.calls.asked[-3:]] == [(Priority.BATCH, {})] * 3
    kernel.calls.gate = asyncio.Event()
    try:
        with answers_with(openai.APIStatusError, "timed_out", timeout_s=0.01) as late:
            client.embeddings.create(model="minilm", input="hello", extra_body={"timeout_s": 0.01})
    finally:
        kernel.calls.gate = None
    assert late.value.status_code == 504
    with answers_with(openai.BadRequestError, "bad_input", key="timeout_s"):
        client.embeddings.create(model="minilm", input="hello", extra_body={"timeout_s": 0})


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"n": 200}, "n"),
        ({"stop": [str(i) for i in range(10_000)]}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"presence_penalty": 3}, "presence_penalty"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(client, extra, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="smollm2", messages=HELLO, **extra)
    assert (refused.value.param, refused.value.code) == (param, "bad_input")


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"extra_body": {"best_of": 3}}, "best_of"),
        ({"extra_body": {"best_of": True}}, "best_of"),
        ({"extra_body": {"use_beam_search": True}}, "use_beam_search"),
        ({"extra_body": {"length_penalty": 0.8}}, "length_penalty"),
    ],
)
def test_what_is_not_supported_yet_is_refused_by_name(client, extra, param):
    with answers_with(openai.BadRequestError, "bad_input", key=param, reason="not_supported") as refused:
        client.chat.completions.create(model="smollm2", messages=HELLO, **extra)
    assert (refused.value.param, refused.value.code) == (param, "bad_input")


@pytest.mark.parametrize(
    "extra",
    [
        {"n": 1, "tools": [], "logprobs": False, "presence_penalty": 0, "user": "me"},
        {"prompt_cache_key": "k", "safety_identifier": "u", "store": True, "metadata": {"a": "b"}},
        {"service_tier": "flex", "verbosity": "low", "reasoning_effort": "high", "modalities": ["text"]},
        {"extra_body": {"keep_alive": "5m", "skip_special_tokens": True, "use_beam_search": False}},
        {"extra_body": {"length_penalty": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1.0, "best_of": 1}},
        {"stop": "", "max_tokens": -1, "logit_bias": {}, "prediction": None, "stream_options": None},
        {"extra_body": {"length_penalty": 1.0, "stop": [""], "seed": None, "tool_choice": None, "n": None}},
        {"extra_body": {"nobody_knows": None, "echo": False, "suffix": None, "stream": None, "class": None}},
    ],
)
def test_a_parameter_that_changes_no_answer_is_let_through(client, kernel, extra):
    plain = client.chat.completions.create(model="smollm2", messages=HELLO, seed=1)
    extra = {"seed": 1} | extra
    extra["extra_body"] = {"seed": 1} | {k: v for k, v in extra.get("extra_body", {}).items() if k != "seed"}
    assert client.chat.completions.create(model="smollm2", messages=HELLO, **extra).choices == plain.choices
    assert kernel.calls.asked[-1].params.keys() <= {
        "seed", "n", "logprobs", "presence_penalty", "max_tokens", "logit_bias", "min_p", "repetition_penalty",
    }  # fmt: skip


def test_an_answer_without_a_limit_has_as_many_tokens_as_fit(client, kernel):
    client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=-1)
    assert kernel.calls.asked[-1].params == {"max_tokens": 2**31 - 1}
    client.completions.create(model="smollm2", prompt="once", max_tokens=-1)
    assert kernel.calls.asked[-1].params == {"max_tokens": 2**31 - 1}


def test_embeddings_let_through_what_changes_no_vector(client):
    extra = {"extra_body": {"dimensions": None, "nobody_knows": None, "metadata": {"a": 1}, "user": "me"}}
    plain = client.embeddings.create(model="minilm", input="hello")
    assert client.embeddings.create(model="minilm", input="hello", **extra).data == plain.data


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"messages": HELLO, "temprature": 1}, "temprature"),
        ("chat/completions", {"messages": HELLO, "max_tokens": "many"}, "max_tokens"),
        ("chat/completions", {"messages": HELLO, "stream_options": {"usage": True}}, "stream_options.usage"),
        ("completions", {"prompt": "x", "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ("chat/completions", {"messages": ["hello"]}, "messages[0]"),
        ("chat/completions", {}, "messages"),
        ("chat/completions", {"messages": HELLO, "response_format": {"kind": 1}}, "response_format.kind"),
        ("completions", {"prompt": "x", "stop": 1}, "stop"),
        ("embeddings", {"input": "x", "max_tokens": 1}, "max_tokens"),
        ("embeddings", {"input": "x", "timeout_s": 0}, "timeout_s"),
        ("tasks/chat", {"input": "x", "temperature": 1}, "temperature"),
        ("tasks/chat", {"input": "x", "class": "fast"}, "class"),
    ],
)  # fmt: skip
def test_what_is_refused_has_its_name_in_param_wherever_it_stands(client, path, body, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.post(f"/{path}", cast_to=object, body={"model": "smollm2", **body})
    assert (refused.value.param, refused.value.code) == (param, "bad_input")


@pytest.mark.parametrize(("given", "reason"), [([1, 2, 3], "token_ids"), ([[1, 2], [3]], "token_ids"), ([], "empty")])
def test_token_ids_and_nothing_are_refused(client, given, reason):
    with answers_with(openai.BadRequestError, "bad_input", key="input", reason=reason):
        client.embeddings.create(model="minilm", input=given)


def test_more_inputs_than_a_call_may_have_are_refused_on_every_route(client):
    many, wanted = ["x"] * 2049, {"unit": "inputs", "size": 2049, "limit": 2048}
    with answers_with(openai.BadRequestError, "bad_input", **wanted):
        client.embeddings.create(model="minilm", input=many)
    for stream in (False, True):
        with answers_with(openai.BadRequestError, "bad_input", **wanted):
            client.completions.create(model="smollm2", prompt=many, stream=stream)
    with answers_with(openai.BadRequestError, "bad_input", **wanted):
        client.post("/tasks/embed", cast_to=object, body={"model": "minilm", "inputs": many})
    assert len(client.embeddings.create(model="minilm", input=many[:2048]).data) == 2048


def test_other_dimensions_are_refused(client):
    with answers_with(openai.BadRequestError, "bad_input", key="dimensions", value=8, expected=32):
        client.embeddings.create(model="minilm", input="hello", dimensions=8)


def test_errors_are_the_client_s_own(client):
    with answers_with(openai.NotFoundError, "model_not_found", name="gpt-9"):
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    with answers_with(openai.BadRequestError, "wrong_task", model="minilm:1", task="chat"):
        client.chat.completions.create(model="minilm", messages=HELLO)
    with answers_with(openai.BadRequestError, "bad_input", key="messages"):
        client.chat.completions.create(model="smollm2", messages=[], stream=True)


def test_every_answer_has_an_id_of_its_own_and_every_refusal_its_exception(client):
    asked = [client.embeddings.create(model="minilm", input="hello")._request_id for _ in range(2)]
    with pytest.raises(openai.NotFoundError) as missing:
        client.get("/no/such/route", cast_to=object)
    with pytest.raises(openai.APIStatusError) as method:
        client.delete("/embeddings", cast_to=object)
    assert (missing.value.code, method.value.status_code) == ("not_found", 405)
    ids = [*asked, missing.value.request_id, method.value.request_id]
    assert len({one for one in ids if one}) == 4


def test_embeddings_may_be_asked_to_cut(client):
    asked = {"model": "minilm", "input": "hello"}
    for extra in ({"truncate": True}, {"truncate_prompt_tokens": -1}, {"truncate": False}):
        assert client.embeddings.create(**asked, extra_body=extra).data
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(**asked, extra_body={"truncate_prompt_tokens": 0})
    assert refused.value.param == "truncate_prompt_tokens"


class Refusing:
    """An engine that refuses every call with one error, or says one piece and then that."""

    def __init__(self, error):
        self._error = error

    def add(self, call):
        raise self._error

    def cancel(self, call_id):
        """Nothing is in hand."""


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (Busy("Too many calls wait", retry_after_s=3), openai.RateLimitError, 429),
        (Unavailable("No process serves it"), openai.InternalServerError, 503),
        (TimedOut("It did not answer in time"), openai.InternalServerError, 504),
        (Conflict("Another stands on it"), openai.ConflictError, 409),
        (TooLong("Too many bytes", size=9, limit=8, unit="bytes"), openai.APIStatusError, 413),
        (TooLong("Too many tokens", size=9, limit=8), openai.BadRequestError, 400),
    ],
    ids=lambda one: getattr(one, "code", None),
)
def test_every_refusal_is_the_exception_that_the_client_has_for_it(tmp_path, error, kind, status):
    kernel = MemoryKernel()
    kernel.calls.engine = Refusing(error)
    with (
        serving(kernel, Config(tmp_path)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as asker,
    ):
        for stream in (False, True):
            with pytest.raises(kind) as refused:
                asker.chat.completions.create(model="smollm2", messages=HELLO, stream=stream)
            assert refused.value.status_code == status
            assert error.message in refused.value.message
            waits = refused.value.response.headers.get("retry-after")
            assert waits == ("3" if status == 429 else None)


def test_a_body_that_is_too_large_is_413_to_the_client(tmp_path):
    with (
        serving(MemoryKernel(), Config(tmp_path, max_body_bytes=4096)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as asker,
        pytest.raises(openai.APIStatusError) as refused,
    ):
        asker.embeddings.create(model="minilm", input="x" * 5000)
    assert (refused.value.status_code, refused.value.code) == (413, "too_long")
