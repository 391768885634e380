"""pydantic-ai: agents with an OpenAI-compatible provider."""

import asyncio
from contextlib import suppress

import openai
import pytest
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.embeddings import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits


class Pet(BaseModel):
    """A pet."""

    name: str = Field(max_length=20)
    age: int


@pytest.fixture(scope="module")
def agent(server):
    def make(name="smollm2", **said):
        model = OpenAIChatModel(name, provider=OpenAIProvider(base_url=server.v1, api_key="none"))
        return Agent(
            model, model_settings=ModelSettings(temperature=0, max_tokens=100, timeout=server.timeout_s), **said
        )

    return make


def test_a_chat_answers(agent):
    made = agent().run_sync("Say hello.")
    assert made.output
    assert made.usage.output_tokens > 0


def test_a_streamed_chat_is_the_same_text(agent):
    async def stream():
        async with agent().run_stream("Say hello.") as made:
            return "".join([piece async for piece in made.stream_text(delta=True)])

    assert asyncio.run(stream()) == agent().run_sync("Say hello.").output


@pytest.mark.parametrize("kind", [NativeOutput, ToolOutput])
def test_structured_output_is_the_class_asked_for(agent, kind):
    made = agent(output_type=kind(Pet)).run_sync("A cat called Tom, 3 years old.")
    assert isinstance(made.output, Pet)


def test_a_tool_is_called_and_its_result_goes_back(agent):
    asked = []
    one = agent(output_type=ToolOutput(Pet))

    @one.tool_plain(retries=2)
    def pet_of(owner: str) -> str:
        """The pet of an owner."""
        asked.append(owner)
        return "a cat called Tom, 3 years old"

    with suppress(UsageLimitExceeded):  # so small a model asks again and again; what counts is that it may
        one.run_sync("Which pet has Ann?", usage_limits=UsageLimits(request_limit=2))
    assert asked
    assert all(isinstance(owner, str) for owner in asked)


def test_embeddings_come(server):
    client = openai.AsyncOpenAI(base_url=server.v1, api_key="none", timeout=server.timeout_s)
    model = OpenAIEmbeddingModel("minilm", provider=OpenAIProvider(openai_client=client))
    made = Embedder(model).embed_documents_sync(["a parcel", "an invoice"])
    assert [len(one) for one in made.embeddings] == [384, 384]


def test_an_unknown_model_is_an_http_error(agent):
    with pytest.raises(ModelHTTPError) as caught:
        agent("nothing").run_sync("hi")
    assert caught.value.status_code == 404
