"""OpenTelemetry with a real daemon: the stages of a call reach a receiver, its end flushes, its kill leaves nothing."""

from __future__ import annotations

from contextlib import suppress

import httpx
import psutil
import pytest
from test_keys_of_a_daemon import Box

from llmos.home import children_of
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base
from llmos.testing.otlp_receiver import attributes_of, receiving_traces

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OpenTelemetry is not here: llmos[otel]")
pytestmark = pytest.mark.acceptance

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MANY = 8
PATIENCE_S = 60.0


@pytest.fixture
def receiver():
    with receiving_traces() as receiver:
        yield receiver


@pytest.fixture
def box(tmp_path, receiver):
    home = tmp_path / "home"
    home.mkdir()
    add_base(Store(home))
    made = Box(home)
    made.environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "answers"}
    yield made
    made.run("down")


def ask(box):
    body, headers = {"model": "tiny", "input": "where is my parcel"}, {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    answer = httpx.post(f"{box.url}/v1/embeddings", json=body, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def senders(home):
    return [one for one in children_of(home) if "llmos.programs.telemetry.main" in psutil.Process(one).cmdline()]


def test_the_stages_of_calls_reach_a_receiver_and_the_end_flushes(box, receiver, tmp_path):
    box.run("up")
    asked = [ask(box)]
    first = receiver.spans_of_calls(1, PATIENCE_S)
    assert attributes_of(receiver.resources[0])["service.name"] == "answers"
    (sender,) = senders(tmp_path / "home")
    asked += [ask(box) for _ in range(MANY)]
    box.run("down")
    assert not psutil.pid_exists(sender)
    spans = [*first, *receiver.spans_of_calls(MANY, 0.1)]
    while not receiver.spans.empty():
        spans.append(receiver.spans.get())
    calls = {attributes_of(one)["llmos.call.id"]: one for one in spans if attributes_of(one)}
    assert [*calls] == asked
    for call in calls.values():
        assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, SPAN)
        assert call.name == "embeddings tiny:1"
        assert attributes_of(call)["gen_ai.usage.input_tokens"] > 0
        stages = [one for one in spans if one.parent_span_id == call.span_id]
        assert {"queue", "tokenize", "compute"} <= {one.name for one in stages}
        assert all(call.start_time_unix_nano <= one.start_time_unix_nano for one in stages)
        assert all(one.end_time_unix_nano <= call.end_time_unix_nano for one in stages)


def test_a_killed_daemon_leaves_no_sender_behind(box, receiver, tmp_path):
    box.run("up")
    ask(box)
    receiver.spans_of_calls(1, PATIENCE_S)
    (sender,) = senders(tmp_path / "home")
    box.kill()
    with suppress(psutil.NoSuchProcess):
        psutil.Process(sender).wait(PATIENCE_S)  # until it has seen the end of its pipe
    assert not psutil.pid_exists(sender)
