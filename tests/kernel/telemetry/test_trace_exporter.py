"""The queue of traces: no call waits for it or fails by it, what is dropped is counted, and the end flushes it."""

import logging
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.call import Tokens
from llmos.abi.call_record import new_call_id
from llmos.abi.call_trace import trace_context_of
from llmos.kernel.telemetry.trace_exporter import TraceExporter

PATIENCE_S = 60.0
CONTEXT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


def entry(flags=None, call_id=None):
    context = None if flags is None else trace_context_of(CONTEXT + flags)
    call_id = call_id or new_call_id(1_750_000_000.0)
    return (call_id, 1.0, "support:2", "classify", "ok", 0.01, 0.0, None, context, Tokens())


class FakeSender:
    """Keeps what it is sent, once it may go on; or says why not."""

    def __init__(self, reason="", is_open=True):
        self.reason = reason
        self.batches = []
        self.is_at_it, self.may_go_on = threading.Event(), threading.Event()
        self.is_closed = self.is_finished = False
        if is_open:
            self.may_go_on.set()

    def send(self, entries):
        self.is_at_it.set()
        assert self.may_go_on.wait(PATIENCE_S)
        self.batches.append(list(entries))
        return "given up" if self.is_closed else self.reason

    def close(self):
        self.is_closed = True
        self.may_go_on.set()

    def finish(self):
        self.is_finished = True

    @property
    def entries(self):
        return [one for batch in self.batches for one in batch]


def test_the_end_flushes_what_waits_in_order_and_in_small_requests():
    sender, sent = FakeSender(), [entry() for _ in range(600)]
    exporter = TraceExporter(sender)
    for one in sent:
        exporter.add(one)
    exporter.close()
    assert sender.entries == sent
    assert max(map(len, sender.batches)) <= 256
    assert (exporter.sent_count, exporter.lost_count, exporter.waiting_count) == (600, 0, 0)
    assert (sender.is_finished, sender.is_closed) == (True, False)


def test_a_full_queue_drops_and_counts_and_a_still_receiver_holds_nobody():
    sender = FakeSender(is_open=False)
    exporter = TraceExporter(sender, most_waiting=10, gather_s=0.0)
    exporter.add(entry())
    assert sender.is_at_it.wait(PATIENCE_S)
    for _ in range(20):
        exporter.add(entry())
    assert (exporter.waiting_count, exporter.lost_count) == (10, 11)
    sender.may_go_on.set()
    exporter.close()
    assert (exporter.sent_count, exporter.lost_count) == (10, 11)


def test_the_end_gives_up_on_a_receiver_that_stands_still_and_counts_what_is_left(caplog):
    sender = FakeSender(is_open=False)
    exporter = TraceExporter(sender, flush_s=0.0, gather_s=0.0)
    exporter.add(entry())
    assert sender.is_at_it.wait(PATIENCE_S)
    for _ in range(40):
        exporter.add(entry())
    with caplog.at_level(logging.WARNING):
        exporter.close()
    assert (exporter.sent_count, exporter.lost_count) == (0, 41)
    assert "not sent before the end" in caplog.text


def test_what_is_refused_is_lost_and_said_once_with_the_reason(caplog):
    sender = FakeSender(reason="503 from the receiver")
    exporter = TraceExporter(sender, gather_s=0.0)
    for _ in range(100):
        exporter.add(entry())
    exporter.close()
    assert (exporter.sent_count, exporter.lost_count) == (0, 100)
    assert [one.getMessage().count("503 from the receiver") for one in caplog.records] == [1]


def raises(*_):
    raise ImportError("libfoo.so is missing")


def test_a_sender_that_raises_is_asked_again_for_the_next(caplog):
    sender = FakeSender()
    sender.send, send = raises, sender.send
    exporter = TraceExporter(sender, gather_s=0.0)
    exporter.add(entry())
    while exporter.waiting_count:
        threading.Event().wait(0.001)
    sender.send = send
    exporter.add(entry())
    exporter.close()
    assert (exporter.sent_count, exporter.lost_count) == (1, 1)
    assert "libfoo.so is missing" in caplog.text


@pytest.mark.parametrize(("flags", "is_sent"), [("01", True), ("00", False), ("03", True), ("02", False)])
def test_a_client_decides_by_its_flags_whatever_the_share(flags, is_sent):
    sender = FakeSender()
    exporter = TraceExporter(sender, share=0.000001 if is_sent else 1.0)
    exporter.add(entry(flags))
    exporter.close()
    assert (exporter.sent_count, exporter.lost_count) == (int(is_sent), 0)


def test_the_share_is_decided_by_the_call_s_id():
    sender = FakeSender()
    exporter = TraceExporter(sender, share=0.5)
    low, high = (entry(call_id="req_00000000" + "0" * 8 + digits) for digits in ("0fffffff", "f0000000"))
    exporter.add(low)
    exporter.add(high)
    exporter.close()
    assert sender.entries == [low]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.lists(st.booleans(), max_size=80))
def test_every_trace_is_sent_or_lost_and_counted_once(most_waiting, answers):
    waiting = iter(answers)

    class Fickle(FakeSender):
        def send(self, entries):
            self.batches.append(list(entries))
            return "" if next(waiting, True) else "no"

    sender = Fickle()
    exporter = TraceExporter(sender, most_waiting=most_waiting, gather_s=0.0)
    for _ in answers:
        exporter.add(entry())
    exporter.close()
    assert exporter.sent_count + exporter.lost_count == len(answers)
    assert exporter.waiting_count == 0
