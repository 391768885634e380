"""llama-index with its openai-like classes, for servers that are not OpenAI's."""

import openai
import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field


class Pet(BaseModel):
    """A pet."""

    name: str = Field(max_length=20)
    age: int


def weather(city: str) -> str:
    """The weather in a city now."""
    return f"fine in {city}"


HELLO = [ChatMessage(role="user", content="Say hello.")]


@pytest.fixture(scope="module")
def chat(server):
    return OpenAILike(
        api_base=server.v1,
        api_key="none",
        model="smollm2",
        is_chat_model=True,
        is_function_calling_model=True,
        temperature=0,
        max_tokens=80,
        max_retries=0,
        timeout=server.timeout_s,
    )


def test_a_chat_answers_and_streams_the_same(chat):
    made = chat.chat(HELLO)
    assert made.message.content
    assert [*chat.stream_chat(HELLO)][-1].message.content == made.message.content


def test_a_completion_streams(chat):
    assert [*chat.stream_complete("Say hello.")][-1].text


def test_a_tool_is_called(chat):
    tool = FunctionTool.from_defaults(fn=weather)
    made = chat.chat_with_tools([tool], user_msg="What is the weather in Oslo?", tool_required=True)
    calls = chat.get_tool_calls_from_response(made)
    assert [call.tool_name for call in calls] == ["weather"]
    assert "city" in calls[0].tool_kwargs


def test_structured_output_is_the_class_asked_for(chat):
    structured = chat.as_structured_llm(Pet)
    made = structured.chat([ChatMessage(role="user", content="A cat called Tom, 3 years old.")])
    assert isinstance(made.raw, Pet)


def test_embeddings_come_one_and_many(server):
    made = OpenAILikeEmbedding(
        model_name="minilm", api_base=server.v1, api_key="none", max_retries=0, timeout=server.timeout_s
    )
    assert len(made.get_text_embedding("a parcel")) == 384
    assert [len(one) for one in made.get_text_embedding_batch(["a parcel", "an invoice"])] == [384, 384]


def test_an_unknown_model_is_openais_own_error(server):
    with pytest.raises(openai.NotFoundError):
        OpenAILike(api_base=server.v1, api_key="none", model="nothing", is_chat_model=True, max_retries=0).chat(HELLO)
