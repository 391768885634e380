"""A call over HTTP has its spans at an OpenTelemetry receiver, below its client's, and is answered without one too."""

import pytest

from llmos.testing.kernel import MemoryKernel
from llmos.testing.otlp_receiver import attributes_of, receiving_traces

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OpenTelemetry is not here: llmos[otel]")
pytestmark = pytest.mark.slow  # each starts the process that sends

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BODY = {"model": "support", "input": "x"}
CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.fixture
def receiver():
    with receiving_traces() as receiver:
        yield receiver


@pytest.fixture
def kernel(receiver):
    made = MemoryKernel()
    made.settings = {**made.settings, "otel_endpoint": receiver.url}
    yield made
    made.requests.close()


def counts(ask):
    lines = ask("GET", "/metrics").text.splitlines()
    return {one.split()[0]: float(one.split()[1]) for one in lines if one.startswith("llmos_otel_traces")}


def test_a_call_s_span_is_the_one_that_its_answer_names_below_the_client_s(ask, receiver):
    answer = ask("POST", "/v1/tasks/classify", BODY, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    call = next(one for one in receiver.spans_of_calls(1) if attributes_of(one))
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, SPAN)
    assert answer.headers["traceparent"] == f"00-{TRACE}-{call.span_id.hex()}-01"
    found = attributes_of(call)
    assert found["llmos.call.id"] == answer.headers["x-request-id"]
    assert (found["gen_ai.request.model"], found["gen_ai.operation.name"]) == ("support:2", "classify")
    assert call.name == "classify support:2"


def test_streams_refusals_and_unsampled_calls(ask, kernel, receiver):
    ask("POST", "/v1/tasks/classify", BODY, headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    ask("POST", "/v1/chat/completions", CHAT)
    ask("POST", "/v1/tasks/classify", {"model": "support", "input": ""})
    streamed, refused = (one for one in map(attributes_of, receiver.spans_of_calls(2)) if one)
    kernel.requests.close()
    assert (streamed["gen_ai.operation.name"], streamed["gen_ai.request.stream"]) == ("chat", True)
    assert streamed["gen_ai.response.time_to_first_chunk"] >= 0
    assert refused["error.type"] == "bad_input"
    assert counts(ask) == {"llmos_otel_traces_sent_total": 2.0, "llmos_otel_traces_lost_total": 0.0}


def test_a_receiver_that_fails_changes_no_answer(ask, kernel, receiver):
    receiver.status = 400
    answers = [ask("POST", "/v1/tasks/classify", BODY).status_code for _ in range(5)]
    kernel.requests.close()
    assert answers == [200] * 5
    assert counts(ask) == {"llmos_otel_traces_sent_total": 0.0, "llmos_otel_traces_lost_total": 5.0}
