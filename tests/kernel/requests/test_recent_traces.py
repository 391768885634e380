"""Traces of recent calls: stages add up to the whole, and only a fixed number is kept."""

import pytest

from llmos.abi.call import CallTimes, Tokens
from llmos.abi.call_trace import trace_context_of
from llmos.kernel.requests.recent_traces import RecentTraces


def entry(number, seconds=0.010, times=None, context=None):
    return (f"req_{number}", 1.0, "support:2", "classify", "ok", seconds, 0.0, times, context, Tokens())


def test_the_stages_and_the_rest_add_up_to_the_total():
    traces = RecentTraces()
    traces.add(entry(1, 0.010, CallTimes(0.001, 0.002, 0.0005, 0.004, 0.0005)))
    found = traces.get("req_1")
    stages = (found.queue_ms, found.tokenize_ms, found.batch_ms, found.compute_ms, found.parse_ms, found.other_ms)
    assert stages == (1.0, 2.0, 0.5, 4.0, 0.5, 2.0)
    assert sum(stages) == pytest.approx(found.total_ms)


def test_a_call_without_an_answer_has_its_total_and_the_clients_trace():
    traces, context = RecentTraces(), trace_context_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    traces.add(entry(1, context=context))
    found = traces.get("req_1")
    assert (found.total_ms, found.other_ms, found.compute_ms) == (10.0, 10.0, 0.0)
    assert (found.trace_id, found.parent_id, found.span_id) == (context.trace_id, context.parent_id, context.span_id)


def test_the_oldest_are_dropped_and_the_last_of_an_id_is_kept():
    traces = RecentTraces(most=3)
    for number in range(5):
        traces.add(entry(number))
    traces.add(entry(3, seconds=0.5))
    assert len(traces) == 3
    assert traces.get("req_1") is None
    assert traces.get("req_3").total_ms == 500.0
