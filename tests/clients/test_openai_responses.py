"""OpenAI's Responses: openai's own client, and openai-agents by its defaults."""

import asyncio

import openai
import pytest
from agents import Agent, Runner, function_tool, set_default_openai_client, set_tracing_disabled
from agents.model_settings import ModelSettings
from pydantic import BaseModel

OSLO = "What is the weather in Oslo?"
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "weather", "description": "The weather now", "parameters": CITY, "strict": False}


class Pet(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0, timeout=server.timeout_s) as client:
        yield client


def test_an_answer_has_text_and_usage(client):
    made = client.responses.create(model="smollm2", input="Say hello.", max_output_tokens=12, temperature=0, store=True)
    assert made.output_text
    assert made.status in ("completed", "incomplete")
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens


def test_the_stream_helper_ends_with_the_same_answer(client):
    said = {"model": "smollm2", "input": "Say hello.", "max_output_tokens": 40, "temperature": 0}
    plain = client.responses.create(**said)
    with client.responses.stream(**said) as stream:
        text = "".join(one.delta for one in stream if one.type == "response.output_text.delta")
    assert text == plain.output_text


def test_a_tool_is_called_and_its_result_goes_back(client):
    said = {"model": "smollm2", "tools": [WEATHER], "max_output_tokens": 80, "temperature": 0}
    made = client.responses.create(**said, input=OSLO, tool_choice="required")
    (call,) = made.output
    assert (call.type, call.name) == ("function_call", "weather")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    items = [{"role": "user", "content": OSLO}, call.model_dump(exclude_none=True), result]
    assert client.responses.create(**said, input=items, tool_choice="none").output_text


def test_parse_gives_the_class_asked_for(client):
    made = client.responses.parse(
        model="smollm2", input="A cat called Tom, 3 years old.", text_format=Pet, max_output_tokens=60, temperature=0
    )
    assert isinstance(made.output_parsed, Pet)


def test_an_earlier_response_is_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="smollm2", input="And?", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_calls_its_tool_and_answers(server, stream):
    asked = []

    @function_tool
    def weather(city: str) -> str:
        """The weather now."""
        asked.append(city)
        return "rain"

    async def run():
        set_tracing_disabled(True)
        client = openai.AsyncOpenAI(base_url=server.v1, api_key="none", timeout=server.timeout_s)
        set_default_openai_client(client)
        settings = ModelSettings(temperature=0, max_tokens=60, tool_choice="required")
        agent = Agent(name="guide", instructions="Be brief.", model="smollm2", tools=[weather], model_settings=settings)
        if not stream:
            return (await Runner.run(agent, OSLO, max_turns=2)).final_output
        streamed = Runner.run_streamed(agent, OSLO, max_turns=2)
        async for _ in streamed.stream_events():
            pass
        return streamed.final_output

    assert asyncio.run(run())
    assert len(asked) == 1
