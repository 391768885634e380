"""The document and the wire agree: what a route answers in, and what its query parameters may be."""

import asyncio
import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.task import task_names
from llmos.api.query import Query
from llmos.sdk.result import result_of

TRAIN = {"program": "train", "args": {"task": "classify", "name": "mood", "base": "minilm"}}
CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "hello"}]}
LOG = "/v1/processes/1/log"
ANSWERS = [
    ("GET", "/", "/", None, "text/html"),
    ("GET", "/", "/", None, "text/plain"),
    ("GET", "/metrics", "/metrics", None, ""),
    ("GET", "/docs", "/docs", None, ""),
    ("GET", "/v1/processes/{pid}/log", LOG, None, ""),
    ("GET", "/v1/processes/{pid}/log", f"{LOG}?follow=true", None, ""),
    ("GET", "/v1/processes/{pid}/events", "/v1/processes/1/events", None, ""),
    ("POST", "/v1/tasks/{task}", "/v1/tasks/embed", {"model": "minilm", "input": "a"}, "application/octet-stream"),
    ("POST", "/v1/tasks/{task}", "/v1/tasks/embed", {"model": "minilm", "input": "a"}, ""),
    ("POST", "/v1/run", "/v1/run", {"model": "support", "input": "a"}, ""),
    ("POST", "/v1/tasks/{task}", "/v1/tasks/generate", {"model": "smollm2", "input": "a", "stream": True}, ""),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", CHAT, ""),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", {**CHAT, "stream": True}, ""),
    ("POST", "/v1/completions", "/v1/completions", {"model": "smollm2", "prompt": "a", "stream": True}, ""),
]


@pytest.fixture
def document(ask):
    return ask("GET", "/openapi.json").json()


@pytest.fixture
def process(ask, kernel):
    ask("POST", "/v1/processes", TRAIN)
    asyncio.run(kernel.processes.play(1))


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(("method", "path", "target", "body", "accept"), ANSWERS)
def test_every_answer_comes_in_a_media_type_that_the_document_names(ask, document, method, path, target, body, accept):
    answer = ask(method, target, body, headers={"accept": accept} if accept else {})
    assert answer.status_code == 200, answer.text
    media = answer.headers["content-type"].partition(";")[0]
    assert media in document["paths"][path][method.lower()]["responses"]["200"]["content"]
    assert media == accept or not accept


@pytest.mark.parametrize(
    ("method", "path", "target", "body", "status"),
    [
        ("POST", "/v1/processes", "/v1/processes", TRAIN, 201),
        ("POST", "/v1/find-rows", "/v1/find-rows", {"ids": ["0" * 16]}, 201),
        ("POST", "/v1/datasets", "/v1/datasets", {"name": "rows", "task": "classify", "data": __file__}, 201),
        ("POST", "/v1/datasets/{ref}/{operation}", "/v1/datasets/tickets@1/split", {}, 201),
    ],
)
def test_what_starts_a_process_answers_with_the_status_of_the_document(
    ask, document, method, path, target, body, status
):
    answer = ask(method, target, body)
    assert answer.status_code == status, answer.text
    succeed = [one for one in document["paths"][path][method.lower()]["responses"] if one < "300"]
    assert succeed == [str(status)]


def test_the_route_of_tasks_has_an_example_of_every_task_that_fits_its_schema(document):
    operation = document["paths"]["/v1/tasks/{task}"]["post"]
    bodies = operation["requestBody"]["content"], operation["responses"]["200"]["content"]
    for body in (one["application/json"] for one in bodies):
        assert tuple(body["examples"]) == task_names()
        for one in body["examples"].values():
            jsonschema.validate(one["value"], {**body["schema"], "components": document["components"]})
    outputs = bodies[1]["application/json"]["examples"]
    assert {name: result_of(name, one["value"]["outputs"][0]) for name, one in outputs.items() if name != "embed"}


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("path", ["/v1/processes/{pid}/log", "/v1/processes/{pid}/events"])
def test_each_event_of_a_stream_and_its_data_fit_the_document(ask, document, path):
    operation = document["paths"][path]["get"]
    schema = operation["responses"]["200"]["content"]["text/event-stream"]["schema"]
    answer = ask("GET", path.format(pid=1) + ("?follow=true" if path.endswith("log") else ""))
    blocks = [block for block in answer.text.split("\n\n") if block]
    assert blocks
    for block in blocks:
        one = dict(line.split(": ", 1) for line in block.split("\n"))
        jsonschema.validate(one, {**schema, "components": document["components"]})
        inner = {**schema["properties"]["data"]["contentSchema"], "components": document["components"]}
        jsonschema.validate(json.loads(one["data"]), inner)


def test_every_status_that_a_refusal_can_have_is_in_the_document_of_every_route(document):
    refused = {"400", "403", "404", "408", "409", "413", "429", "431", "500", "503", "504", "507"}
    for methods in document["paths"].values():
        for operation in methods.values():
            assert refused <= operation["responses"].keys()


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("follow", ["", "follow=true&", "follow=false&"])
@pytest.mark.parametrize(
    "tail", ["x", "", "-1", "0", "1.5", "1e3", "%2B1", "1_000", "%D9%A3", "%C2%B2", "1000000000", "9" * 5000, "true"]
)
def test_a_tail_that_is_no_whole_number_from_1_is_refused(ask, follow, tail):
    answer = ask("GET", f"{LOG}?{follow}tail={tail}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "bad_input", "tail")


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("twice", ["tail=1&tail=1", "tail=1&follow=true&tail=2", "follow=false&follow=true"])
def test_a_parameter_that_comes_twice_is_refused_by_its_name(ask, twice):
    answer = ask("GET", f"{LOG}?{twice}")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, twice.partition("=")[0])
    assert "2 times" in error["message"]


@pytest.mark.usefixtures("process")
def test_what_is_no_parameter_of_a_route_changes_nothing_as_ever(ask):
    assert ask("GET", f"{LOG}?tail=1&other=x&other=y").text == "pid 1 line 3\n"
    assert ask("GET", "/healthz?tail=x&tail=y").status_code == 200


@pytest.mark.usefixtures("process")
def test_a_parameter_is_looked_at_before_the_process_is_looked_for(ask):
    assert ask("GET", "/v1/processes/77/log?tail=x").json()["error"]["param"] == "tail"
    assert ask("GET", "/v1/processes/77/log?tail=1").status_code == 404


def test_a_pid_in_other_digits_than_ascii_s_is_none(ask):
    assert ask("GET", "/v1/processes/%D9%A1").json()["error"]["param"] == "pid"


@given(st.one_of(st.text(max_size=12), st.from_regex(r"[0-9]{1,10}", fullmatch=True)), st.booleans())
def test_a_parameter_is_taken_exactly_where_its_schema_in_the_document_holds(text, is_flag):
    query = Query("one", "", "boolean" if is_flag else "integer")
    try:
        value = query.read([text])
    except BadInput:
        value = None
    if is_flag:
        assert value is {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
    else:
        is_number = text.isascii() and text.isdigit()
        fits = is_number and jsonschema.Draft202012Validator(query.schema).is_valid(int(text))
        assert value == (int(text) if fits else None)


def test_in_the_document_a_pid_is_a_number_and_a_task_one_of_a_list(ask, document):
    (pid,) = document["paths"]["/v1/processes/{pid}"]["get"]["parameters"]
    (task,) = document["paths"]["/v1/tasks/{task}"]["post"]["parameters"]
    assert ask("GET", f"/v1/processes/{pid['schema']['maximum']}").status_code == 404
    assert ask("GET", f"/v1/processes/{pid['schema']['maximum'] + 1}").json()["error"]["param"] == "pid"
    for name in task["schema"]["enum"]:
        asked = ask("POST", f"/v1/tasks/{name}", {"model": "nobody", "input": "a"})
        assert asked.json()["error"]["code"] == "model_not_found"
    assert ask("POST", "/v1/tasks/other", {"model": "nobody", "input": "a"}).json()["error"]["code"] == "not_found"
