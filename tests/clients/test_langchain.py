"""langchain-openai: ChatOpenAI and OpenAIEmbeddings pointed at this daemon."""

import openai
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field


class Pet(BaseModel):
    """A pet."""

    name: str = Field(max_length=20)
    age: int


@tool
def weather(city: str) -> str:
    """The weather in a city now."""
    return f"fine in {city}"


@pytest.fixture(scope="module")
def chat(server):
    return ChatOpenAI(
        base_url=server.v1,
        api_key="none",
        model="smollm2",
        temperature=0,
        max_tokens=80,
        max_retries=0,
        timeout=server.timeout_s,
    )


def test_a_chat_answers(chat):
    made = chat.invoke("Say hello.")
    assert made.content
    assert made.usage_metadata["output_tokens"] > 0


def test_a_streamed_chat_is_the_same_text(chat):
    assert "".join(piece.content for piece in chat.stream("Say hello.")) == chat.invoke("Say hello.").content


def test_a_tool_is_called(chat):
    made = chat.bind_tools([weather], tool_choice="required").invoke("What is the weather in Oslo?")
    assert [call["name"] for call in made.tool_calls] == ["weather"]
    assert isinstance(weather.invoke(made.tool_calls[0]["args"]), str)


def test_a_streamed_tool_call_adds_up(chat):
    bound = chat.bind_tools([weather], tool_choice="weather")
    total = None
    for piece in bound.stream("What is the weather in Oslo?"):
        total = piece if total is None else total + piece
    assert [call["name"] for call in total.tool_calls] == ["weather"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_the_class_asked_for(chat, method):
    made = chat.with_structured_output(Pet, method=method).invoke("A cat called Tom, 3 years old.")
    assert isinstance(made, Pet)


def test_embeddings_come_where_lengths_are_not_checked_by_openais_tokenizer(server):
    made = OpenAIEmbeddings(
        base_url=server.v1, api_key="none", model="minilm", check_embedding_ctx_length=False, timeout=server.timeout_s
    )
    assert [len(one) for one in made.embed_documents(["a parcel", "an invoice"])] == [384, 384]
    assert len(made.embed_query("a parcel")) == 384


def test_token_arrays_are_refused_in_a_sentence_with_the_switch_that_avoids_them(server):
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length"):
        openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0).embeddings.create(
            model="minilm", input=[[1, 2, 3]]
        )


def test_an_unknown_model_is_openais_own_error(server):
    with pytest.raises(openai.NotFoundError):
        ChatOpenAI(base_url=server.v1, api_key="none", model="nothing", max_retries=0).invoke("hi")
