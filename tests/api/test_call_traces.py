"""GET /v1/requests/{call}/trace: the stages of a call that has ended, and its client's trace context."""

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BODY = {"model": "support", "input": "x"}
STAGES = ("queue_ms", "tokenize_ms", "batch_ms", "compute_ms", "parse_ms", "other_ms")


def trace_of(ask, answer):
    return ask("GET", f"/v1/requests/{answer.headers['x-request-id']}/trace").json()


def test_a_call_has_a_trace_whose_stages_add_up(ask):
    found = trace_of(ask, ask("POST", "/v1/tasks/classify", BODY))
    assert (found["model"], found["task"], found["outcome"]) == ("support:2", "classify", "ok")
    assert found["compute_ms"] > 0
    assert abs(sum(found[stage] for stage in STAGES) - found["total_ms"]) < 0.01
    assert found["trace_id"] == ""


def test_the_clients_context_is_in_the_trace_and_in_the_answer(ask):
    answer = ask("POST", "/v1/tasks/classify", BODY, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    found = trace_of(ask, answer)
    assert (found["trace_id"], found["parent_id"]) == (TRACE, SPAN)
    assert answer.headers["traceparent"] == f"00-{TRACE}-{found['span_id']}-01"


def test_a_malformed_context_is_ignored(ask):
    answer = ask("POST", "/v1/tasks/classify", BODY, headers={"traceparent": "hello"})
    assert answer.status_code == 200
    assert "traceparent" not in answer.headers


def test_a_stream_has_the_time_between_its_pieces_and_a_refused_call_its_code(ask):
    chat = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    streamed = trace_of(ask, ask("POST", "/v1/chat/completions", chat))
    assert 0 < streamed["stream_ms"] <= streamed["total_ms"]
    refused = trace_of(ask, ask("POST", "/v1/tasks/classify", BODY | {"input": ""}))
    assert refused["outcome"] == "bad_input"


def test_a_request_without_a_call_has_no_trace(ask):
    answer = ask("GET", "/v1/models")
    assert ask("GET", f"/v1/requests/{answer.headers['x-request-id']}/trace").status_code == 404
    assert ask("GET", "/v1/requests/nothing/trace").status_code == 404
