"""litellm with its provider for OpenAI-compatible servers."""

import litellm
import pytest
from pydantic import BaseModel, Field


class Pet(BaseModel):
    """A pet."""

    name: str = Field(max_length=20)
    age: int


HELLO = [{"role": "user", "content": "Say hello."}]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather now", "parameters": CITY}}


@pytest.fixture(scope="module")
def ask(server):
    def completion(**said):
        plain = {"model": "openai/smollm2", "messages": HELLO, "temperature": 0, "max_tokens": 80}
        return litellm.completion(
            **plain | said, api_base=server.v1, api_key="none", max_retries=0, timeout=server.timeout_s
        )

    return completion


def test_a_chat_answers_and_streams_the_same(ask):
    made = ask()
    assert made.choices[0].message.content
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    whole = litellm.stream_chunk_builder(chunks, messages=HELLO)
    assert whole.choices[0].message.content == made.choices[0].message.content
    assert whole.usage.completion_tokens == made.usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called(ask, stream):
    made = ask(tools=[WEATHER], tool_choice="required", stream=stream)
    if stream:
        made = litellm.stream_chunk_builder(list(made), messages=HELLO)
    assert made.choices[0].message.tool_calls[0].function.name == "weather"
    assert made.choices[0].finish_reason == "tool_calls"


def test_structured_output_fits_the_class(ask):
    made = ask(response_format=Pet, messages=[{"role": "user", "content": "A cat called Tom, 3 years old."}])
    assert Pet.model_validate_json(made.choices[0].message.content)


def test_embeddings_come(server):
    made = litellm.embedding(
        "openai/minilm", ["a parcel", "an invoice"], api_base=server.v1, api_key="none", timeout=server.timeout_s
    )
    assert [len(one["embedding"]) for one in made.data] == [384, 384]


def test_errors_are_its_own(ask):
    with pytest.raises(litellm.NotFoundError):
        ask(model="openai/nothing")
    with pytest.raises(litellm.ContextWindowExceededError):
        ask(messages=[{"role": "user", "content": "word " * 12_000}])


CHAIR = {
    "query": "How do I return a chair?",
    "documents": ["We ship on Mondays.", "Returns of chairs take 14 days.", "Our office is in Oslo."],
}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("cohere/minilm", "/v1/rerank"),
        ("cohere/minilm", "/v2/rerank"),
        ("jina_ai/minilm", "/v1/rerank"),
        ("hosted_vllm/minilm", ""),
        ("huggingface/minilm", "/tei/minilm"),
        ("infinity/minilm", ""),
    ],
)
def test_documents_are_ranked_by_each_provider(server, model, path):
    said = {"return_documents": False} if model.startswith("infinity") else {}  # its documents are bare texts
    where = {"api_base": f"{server.url}{path}", "api_key": "none", "timeout": server.timeout_s}
    made = litellm.rerank(model=model, **CHAIR, **said, **where, top_n=2)
    assert made.results[0]["index"] == 1


def test_anthropic_s_and_ollama_s_providers_chat(server):
    said = {"messages": HELLO, "temperature": 0, "max_tokens": 20, "api_key": "none", "timeout": server.timeout_s}
    one = litellm.completion("anthropic/smollm2", api_base=server.url, **said)
    other = litellm.completion("ollama_chat/smollm2", api_base=server.url, **said)
    assert one.choices[0].message.content == other.choices[0].message.content
