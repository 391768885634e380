"""The process that sends traces: it reaches a receiver, and neither its end nor a silent receiver holds the daemon."""

import os
import signal
import socket
import threading

import psutil
import pytest

from llmos.abi.call import CallTimes, Tokens
from llmos.abi.call_record import new_call_id
from llmos.abi.call_trace import trace_context_of
from llmos.config import Config
from llmos.home import children_of
from llmos.kernel.requests.request_service import RequestService
from llmos.kernel.telemetry.sender_process import SenderProcess
from llmos.kernel.telemetry.trace_exporter import TraceExporter, is_installed
from llmos.testing.otlp_receiver import attributes_of, receiving_traces

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OpenTelemetry is not here: llmos[otel]")
pytestmark = pytest.mark.slow  # each starts a process
CONTEXT = trace_context_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
TIMES = CallTimes(0.001, 0.002, 0.0005, 0.004, 0.0005)
PATIENCE_S = 60.0


def entry():
    call_id = new_call_id(1_750_000_000.0)
    return (call_id, 1.0, "support:2", "classify", "ok", 0.01, 0.0, TIMES, CONTEXT, Tokens(7, 3))


def has_gone(os_pid):
    return not psutil.pid_exists(os_pid)


def test_traces_arrive_the_home_marks_the_process_and_it_ends_with_the_exporter(tmp_path):
    assert is_installed()
    with receiving_traces() as receiver:
        sender = SenderProcess(receiver.url, tmp_path)
        exporter = TraceExporter(sender, flush_s=PATIENCE_S)
        sent = [entry() for _ in range(300)]
        exporter.add(sent[0])
        receiver.spans_of_calls(1, PATIENCE_S)
        os_pid = sender.os_pid
        assert os_pid in children_of(tmp_path)
        for one in sent[1:]:
            exporter.add(one)
        exporter.close()
        found = receiver.spans_of_calls(299, PATIENCE_S)
    calls = [attributes_of(one)["llmos.call.id"] for one in found if attributes_of(one)]
    assert calls == [one[0] for one in sent[1:]]
    assert (exporter.sent_count, exporter.lost_count) == (300, 0)
    assert has_gone(os_pid)


def test_a_killed_process_costs_a_batch_and_is_started_again_but_not_at_once(tmp_path):
    now = [100.0]
    with receiving_traces() as receiver:
        sender = SenderProcess(receiver.url, tmp_path, steady=lambda: now[0])
        assert sender.send([entry()]) == ""
        os.kill(sender.os_pid, signal.SIGKILL)
        assert sender.send([entry()]) == "the process that sends them ended with -9"
        assert sender.send([entry()]) == "the process that sends them ended with -9"
        assert sender.os_pid is None
        now[0] += 10.0
        assert sender.send([entry()]) == ""
        sender.finish()
    assert len(receiver.paths) == 2


def test_one_that_was_ended_takes_nothing_and_says_so(tmp_path):
    sender = SenderProcess("http://127.0.0.1:9", tmp_path)
    sender.close()
    assert sender.send([entry()]) != ""
    assert sender.os_pid is None


def test_a_text_that_cannot_be_encoded_costs_its_batch_and_not_the_process(tmp_path):
    with receiving_traces() as receiver:
        sender = SenderProcess(receiver.url, tmp_path)
        assert sender.send([entry()]) == ""
        os_pid = sender.os_pid
        with pytest.raises(UnicodeEncodeError):
            sender.send([(*entry()[:2], "\ud800", *entry()[3:])])
        assert sender.send([entry()]) == ""
        assert sender.os_pid == os_pid
        sender.finish()


def test_signals_of_a_terminal_and_of_systemd_end_it_not_before_the_daemon_does(tmp_path):
    with receiving_traces() as receiver:
        sender = SenderProcess(receiver.url, tmp_path)
        assert sender.send([entry()]) == ""
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(sender.os_pid, number)
        assert sender.send([entry()]) == ""
        sender.finish()


def test_a_receiver_that_never_answers_holds_the_end_no_longer_than_the_flush(tmp_path, caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_S)
        sender = SenderProcess(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
        exporter = TraceExporter(sender, flush_s=0.0, gather_s=0.0)
        exporter.add(entry())
        connection, _ = silent.accept()
        with connection:
            os_pid = sender.os_pid
            exporter.add(entry())
            exporter.close()
    assert (exporter.sent_count, exporter.lost_count) == (0, 2)
    assert has_gone(os_pid)
    assert not any(one.name == "otel" for one in threading.enumerate())


def test_the_request_service_sends_its_traces_and_without_a_receiver_none(tmp_path):
    with receiving_traces() as receiver:
        service, told = RequestService(Config(tmp_path, otel_endpoint=receiver.url)), entry()
        service.traces.add(told)
        service.close()
        assert attributes_of(receiver.spans_of_calls(1)[-1])["llmos.call.id"] == told[0]
    assert service.traces.get(told[0]).total_ms == 10.0
    assert (service.sent_traces_count, service.lost_traces_count) == (1, 0)
    off = RequestService(Config(tmp_path))
    off.traces.add(told)
    off.close()
    assert (off.sent_traces_count, off.lost_traces_count) == (0, 0)
