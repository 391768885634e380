"""The official openai client works unchanged, and what it may not ask is refused rather than ignored."""

import openai
import pytest

from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with (
        serving(MemoryKernel(), Config(tmp_path_factory.mktemp("home"))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_models_are_listed_and_retrieved(client):
    assert "support:2" in [model.id for model in client.models.list()]
    assert client.models.retrieve("support").id == "support:2"


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


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
    ],
)
def test_what_is_not_supported_yet_is_refused_by_name(client, extra, param):
    with pytest.raises(openai.BadRequestError, match="not supported yet") as refused:
        client.chat.completions.create(model="smollm2", messages=HELLO, **extra)
    assert (refused.value.param, refused.value.code) == (param, "bad_input")


def test_a_parameter_that_asks_for_nothing_is_let_through(client):
    extra = {"n": 1, "tools": [], "logprobs": False, "presence_penalty": 0, "user": "me"}
    assert client.chat.completions.create(model="smollm2", messages=HELLO, **extra).choices


def test_a_parameter_nobody_knows_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="temprature"):
        client.chat.completions.create(model="smollm2", messages=HELLO, extra_body={"temprature": 1})


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]], []])
def test_token_ids_are_refused(client, given):
    with pytest.raises(openai.BadRequestError, match="token ids"):
        client.embeddings.create(model="minilm", input=given)


def test_other_dimensions_are_refused(client):
    with pytest.raises(openai.BadRequestError, match="32 dimensions"):
        client.embeddings.create(model="minilm", input="hello", dimensions=8)


def test_errors_are_the_client_s_own(client):
    with pytest.raises(openai.NotFoundError, match="llmos pull"):
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="does embed, not chat"):
        client.chat.completions.create(model="minilm", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="smollm2", messages=[], stream=True)
