"""instructor: classes out of a chat, by tools and by schema."""

import instructor
import openai
import pytest
from pydantic import BaseModel, Field


class Pet(BaseModel):
    """A pet."""

    name: str = Field(max_length=20)
    age: int


TOM = [{"role": "user", "content": "A cat called Tom, 3 years old."}]
MODES = (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA)


def client(server, mode):
    return instructor.from_openai(
        openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0, timeout=server.timeout_s), mode=mode
    )


def said(**more):
    return {"model": "smollm2", "messages": TOM, "max_tokens": 80, "temperature": 0, "max_retries": 0} | more


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_the_answer_is_the_class_asked_for(server, mode):
    made = client(server, mode).chat.completions.create(**said(response_model=Pet))
    assert isinstance(made, Pet)


def test_a_plain_chat_passes_through(server):
    made = client(server, instructor.Mode.TOOLS).chat.completions.create(**said(response_model=None))
    assert made.choices[0].message.content


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_a_class_is_streamed_in_parts(server, mode):
    parts = list(client(server, mode).chat.completions.create_partial(**said(response_model=Pet)))
    assert Pet.model_validate(parts[-1].model_dump())


def test_an_unknown_model_is_an_error_whose_sentence_names_it(server):
    with pytest.raises(Exception, match="nothing"):  # its own wrapper of openai's error: it moves
        client(server, instructor.Mode.TOOLS).chat.completions.create(**said(response_model=Pet, model="nothing"))
