"""The request log over HTTP, and the id by which answer, log and feedback name a call."""

import json

import pytest

from llmos.testing.kernel import MemoryKernel


@pytest.fixture
def logging_kernel(kernel):
    kernel.settings |= {"request_log": "all", "request_log_text": True}
    return kernel


@pytest.fixture
def ask_logged(logging_kernel, ask):
    return ask


def call(ask, **body):
    answer = ask("POST", "/v1/run", {"model": "support", "input": "where is my parcel", **body})
    assert answer.status_code == 200, answer.text
    return answer


def test_the_id_in_the_header_names_the_call_in_the_log(ask_logged):
    answer = call(ask_logged, user="ann")
    found = ask_logged("GET", f"/v1/requests/{answer.headers['x-request-id']}").json()
    assert (found["model"], found["task"], found["outcome"], found["user"]) == ("support:2", "classify", "ok", "ann")
    assert found["inputs"] == ["where is my parcel"]
    assert found["outputs"][0]["label"] == answer.json()["outputs"][0]["label"]
    assert found["path"] == "/v1/run"
    assert found["seconds"] > 0


def test_a_call_that_must_not_be_stored_is_logged_without_its_text(ask_logged, logging_kernel):
    answer = call(ask_logged, store=False, user="ann")
    found = ask_logged("GET", f"/v1/requests/{answer.headers['x-request-id']}").json()
    assert (found["inputs"], found["outputs"], found["user"]) == (None, None, "ann")
    assert len(logging_kernel.requests.recent) == 0


def test_a_streamed_call_is_logged_with_its_whole_answer(ask_logged):
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "one two three"}], "stream": True}
    answer = ask_logged("POST", "/v1/chat/completions", {**body, "user": "ann"})
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    said = "".join(json.loads(one)["choices"][0]["delta"].get("content") or "" for one in events)
    found = ask_logged("GET", f"/v1/requests/{answer.headers['x-request-id']}").json()
    assert said
    assert found["outputs"][0]["message"]["content"] == said
    assert (found["user"], found["inputs"][0]["messages"]) == ("ann", body["messages"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
def test_openai_s_user_and_store_are_understood(ask_logged, path):
    own = {"model": "minilm", "input": "a"} if "emb" in path else {"model": "smollm2", "messages": [USER]}
    assert ask_logged("POST", path, {**own, "user": "ann", "store": False}).status_code == 200
    assert ask_logged("POST", path, {**own, "user": 7, "store": "no"}).status_code == 200
    assert [one["user"] for one in ask_logged("GET", "/v1/requests").json()["data"]] == ["", "ann"]


USER = {"role": "user", "content": "hello"}


def test_a_failed_call_is_logged_with_the_code_of_its_error(ask_logged):
    ask_logged("POST", "/v1/tasks/tag", {"model": "support", "input": "a"})
    assert [one["outcome"] for one in ask_logged("GET", "/v1/requests").json()["data"]] == ["wrong_task"]


def test_calls_are_chosen_and_have_no_texts_in_the_list(ask_logged):
    call(ask_logged, user="ann")
    call(ask_logged, user="bob")
    found = ask_logged("GET", "/v1/requests?user=bob&model=support&outcome=ok").json()["data"]
    assert [(one["user"], one["inputs"]) for one in found] == [("bob", None)]
    assert ask_logged("GET", "/v1/requests?limit=1").json()["data"][0]["user"] == "bob"
    assert ask_logged("GET", "/v1/requests?day=2001-01-01").json()["data"] == []


@pytest.mark.parametrize("day", ["yesterday", "../../etc", "2026-1-1"])
def test_a_day_that_is_none_is_refused(ask, day):
    assert ask("GET", f"/v1/requests?day={day}").json()["error"]["param"] == "day"


def test_a_user_s_calls_are_erased(ask_logged):
    call(ask_logged, user="ann")
    call(ask_logged, user="bob")
    assert ask_logged("DELETE", "/v1/requests?user=ann").json() == {"erased": 1}
    assert [one["user"] for one in ask_logged("GET", "/v1/requests").json()["data"]] == ["bob"]


def test_nobody_is_erased_by_mistake(ask):
    assert ask("DELETE", "/v1/requests").json()["error"]["param"] == "user"
    assert ask("DELETE", "/v1/requests?user=").status_code == 400


def test_a_log_that_was_off_says_so(ask):
    answer = call(ask)
    refused = ask("GET", f"/v1/requests/{answer.headers['x-request-id']}")
    assert refused.status_code == 404
    assert "request_log" in refused.json()["error"]["message"]


def test_by_default_nothing_is_written(ask, kernel: MemoryKernel):
    call(ask)
    assert not kernel.requests.log.folder.exists()
    assert len(kernel.requests.recent) == 1


def test_lost_records_are_a_metric(ask_logged):
    call(ask_logged)
    ask_logged("GET", "/v1/requests")
    text = ask_logged("GET", "/metrics").text
    assert "llmos_request_log_records_total 1.0" in text
    assert "llmos_request_log_lost_total 0.0" in text


def test_a_response_that_must_not_be_stored_is_logged_without_its_text(ask_logged):
    body = {"model": "smollm2", "input": "hello", "user": "ann"}
    stored, kept_out = (ask_logged("POST", "/v1/responses", {**body, "store": store}) for store in (True, False))
    assert (stored.status_code, kept_out.status_code) == (200, 200)
    found = [ask_logged("GET", f"/v1/requests/{one.headers['x-request-id']}").json() for one in (stored, kept_out)]
    assert [(one["user"], one["inputs"] is None) for one in found] == [("ann", False), ("ann", True)]
