"""Every refusal has one shape, a sentence and the right status, whatever was sent."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.abi.error import CODES, DiskFull, Fault, LlmosError, WrongTask, error_of
from llmos.api.errors import shape_of, status_of

RUN = "/v1/tasks/classify"


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_error_has_a_status_of_failure_and_keeps_its_code(code):
    error = CODES[code]("a sentence", size=1)
    assert 400 <= status_of(error) < 600
    assert shape_of(error)["error"]["code"] == code


def test_an_error_without_a_status_of_its_own_has_that_of_its_kind():
    assert (status_of(WrongTask("")), status_of(DiskFull("")), status_of(LlmosError("")), status_of(OSError())) == (
        400,
        507,
        500,
        500,
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "words"),
    [
        ("GET", "/v1/nothing", None, 404, "not_found", "/docs"),
        ("PUT", "/v1/processes", None, 405, "bad_input", "It takes: GET, HEAD, POST"),
        ("POST", RUN, b"{", 400, "bad_input", "not valid JSON"),
        ("POST", RUN, b"", 400, "bad_input", "model"),
        (
            "POST",
            RUN,
            b'{"model": "support", "input": "\xff"}',
            400,
            "bad_input",
            "not valid UTF-8: invalid start byte at byte 31",
        ),
        (
            "POST",
            RUN,
            rb'{"model": "support", "input": "a \ud83d b"}',
            400,
            "bad_input",
            "\\ud83d at byte 33 is half of",
        ),
        (
            "POST",
            RUN,
            rb'{"model": "support", "input": "a \ude00 b"}',
            400,
            "bad_input",
            "\\ude00 at byte 33 is half of",
        ),
        (
            "POST",
            "/v1/embeddings",
            {"model": "minilm", "input": []},
            400,
            "bad_input",
            "an empty list. Send at least one",
        ),
        ("POST", RUN, b'{"model": "support", "input": NaN}', 400, "bad_input", "not valid JSON"),
        ("POST", RUN, b'{"model": "support", "input": ' + b"[" * 2000, 400, "bad_input", ""),
        ("POST", RUN, {"model": "support", "input": "x", "params": {"seed": [10**30]}}, 400, "bad_input", "64 bits"),
        ("POST", RUN, b"x" * 5000, 413, "too_long", "4,096"),
        ("POST", RUN, {"model": 7, "input": "x"}, 400, "bad_input", "$.model"),
        ("POST", RUN, {"model": "support", "inptu": "x"}, 400, "bad_input", "inptu"),
        ("POST", RUN, {"model": "support"}, 400, "bad_input", "neither"),
        ("POST", RUN, {"model": "support", "input": "x", "inputs": []}, 400, "bad_input", "both"),
        ("POST", RUN, {"model": "support", "inputs": []}, 400, "bad_input", "empty"),
        ("POST", RUN, {"model": "support", "input": ""}, 400, "bad_input", "empty"),
        ("POST", RUN, {"model": "support", "input": "x", "stream": True}, 400, "bad_input", "stream"),
        ("POST", RUN, {"model": "nobody", "input": "x"}, 404, "model_not_found", "llmos pull nobody"),
        ("POST", RUN, {"model": "support:9", "input": "x"}, 404, "model_not_found", "support:9"),
        ("POST", RUN, {"model": "a/b", "input": "x"}, 404, "model_not_found", "a/b"),
        ("POST", RUN, {"model": "ner", "input": "x"}, 400, "wrong_task", "ner:1 does tag"),
        ("POST", "/v1/tasks/sing", {"model": "ner", "input": "x"}, 404, "not_found", "classify, tag"),
        ("GET", "/v1/processes/9", None, 404, "process_not_found", "llmos ps"),
        ("GET", "/v1/processes/nine", None, 400, "bad_input", "nine"),
        ("GET", "/v1/processes/9/events", None, 404, "process_not_found", "9"),
        ("GET", "/v1/models/nobody", None, 404, "model_not_found", "nobody"),
        ("GET", "/v1/models/ner/report", None, 404, "not_found", "report"),
        ("DELETE", "/v1/models/minilm", None, 409, "conflict", "support:1"),
        ("POST", "/v1/models/ner/rollback", None, 409, "conflict", "llmos promote"),
        ("POST", "/v1/models/ner/gate", {"require": ["f1"]}, 400, "bad_input", "f1.low>=0.8"),
        ("POST", "/v1/models/ner/gate", {}, 400, "bad_input", "margin"),
        ("POST", "/v1/models/ner/gate", {"margin": 2}, 400, "bad_input", "from 0 to 1"),
        ("GET", "/v1/models/NER/gate", None, 400, "bad_input", "no valid name"),
        ("GET", "/v1/datasets/none@1", None, 404, "dataset_not_found", "none@1"),
        ("POST", "/v1/processes", {"program": "dance"}, 400, "bad_input", "dance"),
        ("POST", "/v1/processes", {"program": "probe", "args": {"devices": []}}, 400, "bad_input", "the daemon alone"),
        ("POST", "/v1/processes", {"program": "pull", "args": {"catalog": "/x"}}, 400, "bad_setting", "no argument"),
        ("POST", "/v1/processes", {"program": "train", "args": {"bases": "x"}}, 400, "bad_setting", "near: base"),
        ("POST", "/v1/processes", {"program": "pull", "device": "x" * 65}, 400, "bad_input", "device"),
        (
            "POST",
            "/v1/processes",
            {"program": "pull", "class": "urgent"},
            400,
            "bad_input",
            "class is one of interactive,",
        ),
    ],
)
def test_a_bad_request_gets_a_sentence(ask, method, path, body, status, code, words):
    answer = ask(method, path, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_fault_of_the_model_is_the_answer(ask, kernel):
    kernel.calls.answer = _died
    answer = ask("POST", RUN, {"model": "support", "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "process_died")


async def _died(request):
    raise error_of(Fault("process_died", "It died"))


def test_our_own_mistake_is_told_and_logged_and_the_next_request_is_served(ask, kernel, caplog):
    kernel.models.disk_use = lambda: 1 / 0
    answer = ask("GET", "/v1/disk")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "ZeroDivisionError" in caplog.text
    assert ask("GET", "/healthz").status_code == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ROUTES = ["/v1/tasks/tag", "/v1/tasks/chat", "/v1/embeddings", "/v1/chat/completions", "/v1/completions"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.sampled_from(ROUTES),
    st.dictionaries(
        st.sampled_from(["model", "input", "inputs", "messages", "prompt", "stop", "params", "n"]), json_values
    ),
)
def test_no_json_is_our_own_mistake(ask, path, body):
    answer = ask("POST", path, json.dumps({"model": "smollm2", **body}).encode())
    assert answer.status_code < 500, answer.text
