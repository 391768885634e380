"""A stream that fails in its midst: one more event says why, in the shape that its clients raise, and then it ends."""

import json

import openai
import pytest

from llmos.abi.call import Chunk, Tokens
from llmos.abi.error import BadInput, ProcessDied, TimedOut, fault_of
from llmos.config import Config
from llmos.engines.null import NullEngine
from llmos.testing.kernel import MemoryCalls, MemoryKernel
from llmos.testing.server import serving

HELLO = [{"role": "user", "content": "hi"}]
FAULTS = {
    "a process that died": (ProcessDied("Process 7 died. Ask again"), "process_died", None),
    "a deadline": (TimedOut("No answer within 2 s", timeout_s=2.0), "timed_out", None),
    "its rule": (
        BadInput("The json_schema cannot be enforced: too wide", key="json_schema"),
        "bad_input",
        "guided_json",
    ),
    "our own mistake": (KeyError("what"), "internal", None),
}


class FailingCalls(MemoryCalls):
    """Answers with one word, and then fails: by the chunk of a fault, or as its own loop would."""

    def __init__(self, models, error, *, raises):
        super().__init__(models, NullEngine())
        self._error, self._raises = error, raises

    async def stream(self, request):
        is_chat = request.task == "chat"
        output = {"message": {"role": "assistant", "content": "well"}} if is_chat else {"text": "well"}
        yield Chunk(1, (output | {"finish_reason": None},), is_last=False, tokens=Tokens(2, 1))
        if self._raises:
            raise self._error
        yield Chunk(1, fault=fault_of(self._error))


@pytest.fixture(params=FAULTS)
def failing(request):
    error, code, param = FAULTS[request.param]
    return error, code, param


@pytest.fixture(params=[True, False], ids=["raised", "told"])
def kernel(request, failing):
    kernel = MemoryKernel()
    kernel.calls = FailingCalls(kernel.models, failing[0], raises=request.param)
    return kernel


@pytest.fixture
def client(kernel, tmp_path):
    with (
        serving(kernel, Config(tmp_path)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_openai_s_clients_raise_it_with_its_code_after_what_came_before(client, failing):
    _, code, param = failing
    asked = {"model": "smollm2", "extra_body": {"guided_json": {"type": "object"}} if param else {}}
    for made in (
        client.chat.completions.create(**asked, messages=HELLO, stream=True),
        client.completions.create(**asked, prompt="hi", stream=True),
    ):
        heard = []
        with pytest.raises(openai.APIError) as caught:
            heard.extend(made)
        assert (caught.value.code, caught.value.param, caught.value.body["message"]) == (
            code, param, caught.value.message,
        )  # fmt: skip
        assert (param or "") in caught.value.message
        assert any("well" in one.choices[0].to_json() for one in heard)


def test_the_stream_helper_raises_it_too(client, failing):
    asked = client.chat.completions.stream(model="smollm2", messages=HELLO)
    with pytest.raises(openai.APIError) as caught, asked as stream:
        list(stream)
    assert caught.value.code == failing[1]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_it_is_the_last_event_of_openai_s_routes(ask, path):
    said = {"messages": HELLO} if "chat" in path else {"prompt": "hi"}
    answer = ask("POST", path, {"model": "smollm2", "stream": True, "stream_options": {"include_usage": True}, **said})
    *before, last = [one for one in answer.text.split("\n\n") if one]
    assert [*json.loads(last.removeprefix("data: "))] == ["error"]
    assert all("error" not in json.loads(one.removeprefix("data: ")) for one in before)


def test_it_is_the_last_event_of_ours_by_its_name(ask, failing):
    answer = ask("POST", "/v1/tasks/generate", {"model": "smollm2", "input": "hi", "stream": True})
    first, last = [one for one in answer.text.split("\n\n") if one]
    assert json.loads(first.removeprefix("data: "))["outputs"][0]["text"] == "well"
    name, data = last.split("\n")
    assert (name, json.loads(data.removeprefix("data: "))["error"]["code"]) == ("event: error", failing[1])
