"""Spans of calls: names of the conventions, parents and times, by the SDK's own exporter and over OTLP."""

import pytest

from llmos.abi.call import CallTimes, Tokens
from llmos.abi.call_trace import trace_context_of
from llmos.programs.telemetry import genai
from llmos.testing.otlp_receiver import attributes_of, receiving_traces

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OpenTelemetry is not here: llmos[otel]")
in_memory_span_exporter = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALL = "req_692b3f5c0d1e2f3a4b5c6d7e"
TIMES = CallTimes(0.001, 0.002, 0.0005, 0.004, 0.0005)
STAGES = ["queue", "tokenize", "batch", "compute", "parse"]


def entry(
    task="classify",
    outcome="ok",
    stream_s=0.0,
    times=TIMES,
    context=None,
    call_id=CALL,
    seconds=0.010,
    at=1_764_000_000.0,
):
    client = None if context is None else trace_context_of(context)
    return (call_id, at, "support:2", task, outcome, seconds, stream_s, times, client, Tokens(7, 3))


@pytest.fixture
def spans_of(monkeypatch):
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)

    def spans_of(*entries):
        from llmos.programs.telemetry.spans import SpanSender

        exporter = in_memory_span_exporter.InMemorySpanExporter()
        sender = SpanSender(exporter)
        assert sender.send(entries) == ""
        sender.close()
        return exporter.get_finished_spans()

    return spans_of


def test_the_names_are_those_of_the_conventions():
    conventions = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    known = {value for name, value in vars(conventions).items() if name.startswith("GEN_AI_")}
    ours = {value for value in vars(genai).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    assert len(ours) == 8
    assert ours <= known
    operations = {one.value for one in conventions.GenAiOperationNameValues}
    assert set(genai.OPERATIONS.values()) <= operations


def test_a_call_is_a_span_with_what_the_conventions_want_of_it(spans_of):
    call = spans_of(entry())[0]
    assert call.name == "classify support:2"
    assert call.kind.name == "SERVER"
    assert call.status.status_code.name == "UNSET"
    assert call.attributes == {
        "gen_ai.operation.name": "classify",
        "gen_ai.provider.name": "llmos",
        "gen_ai.request.model": "support:2",
        "gen_ai.response.model": "support:2",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "llmos.call.id": CALL,
        "llmos.task": "classify",
    }
    assert (call.start_time, call.end_time) == (1_764_000_000_000_000_000, 1_764_000_000_010_000_000)


def test_stages_lie_one_after_another_within_the_call(spans_of):
    call, *stages = spans_of(entry())
    assert [one.name for one in stages] == STAGES
    ends = [(one.start_time - call.start_time, one.end_time - call.start_time) for one in stages]
    assert ends == [
        (0, 1_000_000),
        (1_000_000, 3_000_000),
        (3_000_000, 3_500_000),
        (3_500_000, 7_500_000),
        (7_500_000, 8_000_000),
    ]
    assert {one.parent.span_id for one in stages} == {call.context.span_id}
    assert {one.context.trace_id for one in stages} == {call.context.trace_id}
    assert len({one.context.span_id for one in (call, *stages)}) == 6
    assert {one.kind.name for one in stages} == {"INTERNAL"}


def test_stages_without_time_have_no_span_and_none_lasts_longer_than_its_call(spans_of):
    assert [one.name for one in spans_of(entry(times=CallTimes(compute_s=0.001)))][1:] == ["compute"]
    assert len(spans_of(entry(times=None))) == 1
    call, *stages = spans_of(entry(times=CallTimes(0.001, 0.0, 0.0, 0.5, 0.1)))
    assert [one.name for one in stages] == ["queue", "compute"]
    assert stages[-1].end_time == call.end_time


@pytest.mark.parametrize(
    ("task", "operation"),
    [
        ("chat", "chat"),
        ("generate", "text_completion"),
        ("summarize", "text_completion"),
        ("embed", "embeddings"),
        ("rerank", "rerank"),
        ("tokenize", "tokenize"),
    ],
)
def test_an_operation_s_name_is_the_conventions_where_they_have_one(spans_of, task, operation):
    call = spans_of(entry(task))[0]
    assert call.attributes["gen_ai.operation.name"] == operation
    assert call.attributes["llmos.task"] == task


def test_a_stream_has_its_time_to_the_first_chunk(spans_of):
    attributes = spans_of(entry("chat", stream_s=0.004))[0].attributes
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.006)


def test_a_failed_call_has_its_code_and_one_whose_client_left_is_no_error(spans_of):
    failed, left = spans_of(entry(outcome="no_room", times=None), entry(outcome="cancelled", times=None))
    assert (failed.attributes["error.type"], failed.status.status_code.name) == ("no_room", "ERROR")
    assert (left.attributes["error.type"], left.status.status_code.name) == ("cancelled", "UNSET")
    assert "gen_ai.usage.input_tokens" not in failed.attributes
    assert "gen_ai.response.model" not in failed.attributes


def test_the_parent_is_the_client_s_span_and_ours_is_the_one_that_the_answer_told(spans_of):
    one = entry(context=f"00-{TRACE}-{SPAN}-01")
    call, *stages = spans_of(one)
    assert format(call.context.trace_id, "032x") == TRACE
    assert format(call.parent.span_id, "016x") == SPAN
    assert call.parent.is_remote
    assert format(call.context.span_id, "016x") == one[-2].span_id
    assert {format(stage.context.trace_id, "032x") for stage in stages} == {TRACE}


def test_calls_of_one_request_share_its_trace_and_no_span_is_there_twice(spans_of):
    one = entry(context=f"00-{TRACE}-{SPAN}-01", times=None)
    first, second = spans_of(one, one)
    assert first.context.trace_id == second.context.trace_id
    assert first.context.span_id != second.context.span_id
    assert first.parent == second.parent


def test_without_a_client_s_context_the_trace_is_found_by_the_call_s_id(spans_of):
    call = spans_of(entry())[0]
    assert call.parent is None
    assert format(call.context.trace_id, "032x") == "00000000" + CALL.removeprefix("req_")


def test_the_service_is_llmos_unless_opentelemetry_s_variable_names_it(spans_of, monkeypatch):
    assert spans_of(entry())[0].resource.attributes["service.name"] == "llmos"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "answers")
    found = spans_of(entry())[0].resource.attributes
    assert found["service.name"] == "answers"
    assert {"service.version", "service.instance.id", "telemetry.sdk.name"} <= found.keys()


def test_what_is_sent_reaches_a_receiver_with_the_headers_of_the_variable(monkeypatch):
    from llmos.programs.telemetry.spans import open_sender

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
    with receiving_traces() as receiver:
        sender = open_sender(receiver.url)
        assert sender.send([entry(context=f"00-{TRACE}-{SPAN}-01")] * 50) == ""
        sender.close()
        found = receiver.spans_of_calls(50)
    assert set(receiver.paths) == {"/v1/traces"}
    assert {headers["x-team"] for headers in receiver.headers} == {"blue"}
    assert {one.trace_id.hex() for one in found} == {TRACE}
    calls = [one for one in found if "llmos.call.id" in attributes_of(one)]
    assert len({one.span_id for one in calls}) == 50
    assert {one.parent_span_id.hex() for one in calls} == {SPAN}
    assert attributes_of(calls[0])["gen_ai.usage.input_tokens"] == 7
    assert attributes_of(receiver.resources[0])["service.name"]


def test_a_refusal_is_said_with_the_sdk_s_reason_and_in_no_log(caplog):
    from llmos.programs.telemetry.spans import open_sender

    with receiving_traces() as receiver:
        receiver.status = 400
        sender = open_sender(f"{receiver.url}/v1/traces")
        assert "400" in sender.send([entry()])
        receiver.status = 200
        assert sender.send([entry()]) == ""
        sender.close()
    assert set(receiver.paths) == {"/v1/traces"}
    assert caplog.records == []
