"""Calls on their way: sent when they can be answered, sent again when their process died, and always answered."""

from __future__ import annotations

from typing import Any

import pytest

from llmos.abi.call import Call, CallTimes, Chunk
from llmos.abi.error import Busy, Fault
from llmos.abi.frame import Ask, Cancel, Detach, ToChild
from llmos.abi.process import Priority
from llmos.abi.wire import encode
from llmos.kernel.calls.call_queue import HALF_LIFE_S, IN_HAND_INPUTS, PendingCall
from llmos.kernel.calls.router import Router
from llmos.kernel.processes.eviction import IdleTarget
from llmos.testing.clock import Clock
from llmos.testing.errors import fails_with

BASE = "tiny:1"


class Ground:
    """A network over one serve process, and what it sent and asked for."""

    def __init__(self) -> None:
        self.sent: list[ToChild] = []
        self.attaching: list[str] = []
        self.clock = Clock()
        self.router = Router(
            lambda pid, frame: self.send(frame),
            lambda pid, model: self.attaching.append(model),
            self.clock,
            max_waiting_calls=3,
        )
        self.router.serve(1, BASE, "cpu0")

    def send(self, frame: ToChild) -> None:
        encode(frame)
        self.sent.append(frame)

    def open(
        self, number: int, model: str = BASE, text: str = "x", timeout_s: float | None = None, **changes: Any
    ) -> PendingCall:  # Any: other fields of Call
        deadline_at = None if timeout_s is None else self.clock() + timeout_s
        return self.router.open(1, Call(number, model, "embed", (text,), **changes), deadline_at)

    def asked(self) -> list[int]:
        return [frame.call.call_id for frame in self.sent if isinstance(frame, Ask)]

    def crash(self) -> None:
        self.router.lost(1)
        self.sent.clear()
        self.router.became_ready(1)


def answer_of(opened: PendingCall) -> Chunk:
    return opened.chunks.popleft()


def test_calls_wait_for_their_process_to_be_ready_and_go_in_order():
    ground = Ground()
    ground.open(1), ground.open(2)
    assert ground.asked() == []
    ground.router.became_ready(1)
    assert ground.asked() == [1, 2]


def test_a_model_is_attached_once_before_its_calls_are_sent():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1, "ner:1"), ground.open(2, "ner:1"), ground.open(3)
    assert (ground.attaching, ground.asked()) == (["ner:1"], [3])
    ground.router.attached_to(1, "ner:1")
    assert ground.asked() == [3, 1, 2]


def test_a_model_that_cannot_be_attached_is_the_answer_to_its_calls():
    ground = Ground()
    ground.router.became_ready(1)
    opened = ground.open(1, "ner:1")
    ground.router.attach_failed(1, "ner:1", Fault("no_room", "full"))
    assert answer_of(opened).fault == Fault("no_room", "full")
    assert ground.router.in_flight == 0


@pytest.mark.parametrize("is_ready_first", [True, False])
def test_a_call_that_no_frame_can_carry_fails_alone(is_ready_first):
    ground = Ground()
    if is_ready_first:
        ground.router.became_ready(1)
    bad, good = ground.open(1, text="half a pair: \ud800"), ground.open(2)
    if not is_ready_first:
        ground.router.became_ready(1)
    fault = answer_of(bad).fault
    assert fault is not None
    assert fault.code == "bad_input"
    assert ground.asked() == [2]
    assert ground.router.in_flight == 1, "the good one"
    ground.router.answered([Chunk(2, ("y",))])
    assert answer_of(good).outputs == ("y",)
    assert ground.router.in_flight == 0


def test_calls_in_hand_when_the_process_dies_are_sent_again_once_it_is_back():
    ground = Ground()
    ground.router.became_ready(1)
    opened = ground.open(1)
    ground.crash()
    assert ground.asked() == [1]
    ground.router.answered([Chunk(1, ("y",))])
    assert answer_of(opened).outputs == ("y",)


def test_a_call_with_an_answer_begun_or_not_to_be_repeated_is_not_sent_again():
    ground = Ground()
    ground.router.became_ready(1)
    begun, once = ground.open(1), ground.open(2, is_idempotent=False)
    ground.router.answered([Chunk(1, ("piece",), is_last=False)])
    ground.crash()
    assert ground.asked() == []
    assert answer_of(begun).fault is None
    for opened in (begun, once):
        fault = answer_of(opened).fault
        assert fault is not None
        assert fault.code == "process_died"


def test_a_call_that_kills_its_process_ends_and_takes_no_other_with_it():
    ground = Ground()
    ground.router.became_ready(1)
    poison, innocents = ground.open(1), [ground.open(number) for number in (2, 3)]
    ground.crash()
    ground.crash()
    assert ground.asked() == [1], "suspects go alone"
    ground.crash()
    fault = answer_of(poison).fault
    assert fault is not None
    assert "died 3 times" in fault.message
    assert ground.asked() == [2]
    ground.router.answered([Chunk(2)])
    assert ground.asked() == [2, 3]
    ground.router.answered([Chunk(3)])
    assert all(answer_of(one).fault is None for one in innocents)


def test_of_the_calls_of_a_crash_only_the_one_being_taken_in_is_not_resent():
    ground = Ground()
    ground.router.became_ready(1)
    poison, innocent = ground.open(1), ground.open(2)
    ground.router.lost(1, taking_in=(1, 99))
    ground.sent.clear()
    ground.router.became_ready(1)
    assert ground.asked() == [2]
    fault = answer_of(poison).fault
    assert fault is not None
    assert fault.code == "crashed"
    ground.router.answered([Chunk(2)])
    assert answer_of(innocent).fault is None


def test_of_several_calls_only_the_one_that_ends_its_process_alone_is_blamed():
    ground = Ground()
    ground.router.became_ready(1)
    innocent, poison, other = (ground.open(number) for number in (1, 2, 3))
    ground.router.lost(1, taking_in=(1, 2))
    ground.sent.clear()
    ground.router.became_ready(1)
    assert ground.sent == [Ask(innocent.call, True)], "nothing else is sent until it has been taken in"
    ground.router.taken_in(1)
    assert ground.sent == [Ask(innocent.call, True), Ask(poison.call, True)]
    ground.router.lost(1, taking_in=(2,))
    assert (answer_of(poison).fault or Fault("none", "")).code == "crashed"
    ground.sent.clear()
    ground.router.became_ready(1)
    assert ground.sent == [Ask(innocent.call), Ask(other.call)]
    ground.router.answered([Chunk(1), Chunk(3)])
    assert [answer_of(one).fault for one in (innocent, other)] == [None, None]


@pytest.mark.parametrize("end", ["answered", "dropped"])
def test_whoever_is_sent_alone_holds_others_up_until_it_is_answered_or_gone(end):
    ground = Ground()
    ground.router.became_ready(1)
    first, _ = ground.open(1), ground.open(2)
    ground.router.lost(1, taking_in=(1, 2))
    ground.sent.clear()
    ground.router.became_ready(1)
    if end == "answered":
        ground.router.answered([Chunk(1)])
    else:
        ground.router.drop(first)
    assert ground.asked() == [1, 2]
    ground.open(3)
    assert ground.asked() == [1, 2]
    ground.router.taken_in(2)
    ground.router.taken_in(2)
    assert ground.asked() == [1, 2, 3]


def test_who_is_sent_alone_has_its_model_brought_first_and_its_time_may_end_before():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1, "head:1"), ground.open(2, "head:1", timeout_s=5.0)
    ground.router.attached_to(1, "head:1")
    ground.open(3)
    ground.router.lost(1, taking_in=(1, 2))
    ground.sent.clear(), ground.attaching.clear()
    ground.router.became_ready(1)
    assert (ground.asked(), ground.attaching) == ([], ["head:1"])
    ground.router.attached_to(1, "head:1")
    assert ground.asked() == [1]
    ground.clock.now += 6.0
    ground.router.taken_in(1)
    assert ground.asked() == [1, 3]


def test_where_the_model_of_those_sent_alone_cannot_come_the_others_go_on():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1, "head:1"), ground.open(2, "head:1")
    ground.router.attached_to(1, "head:1")
    innocent = ground.open(3)
    ground.router.lost(1, taking_in=(1, 2))
    ground.sent.clear()
    ground.router.became_ready(1)
    ground.router.attach_failed(1, "head:1", Fault("no_room", "none"))
    assert ground.sent == [Ask(innocent.call)]


def test_a_call_nobody_waits_for_is_cancelled_and_its_late_answer_is_for_nobody():
    ground = Ground()
    ground.router.became_ready(1)
    opened = ground.open(1)
    ground.router.drop(opened)
    ground.router.drop(opened)
    assert ground.sent[-1] == Cancel(1)
    ground.router.answered([Chunk(1)])
    assert not opened.chunks


def test_a_process_gone_for_good_answers_all_its_calls():
    ground = Ground()
    opened = ground.open(1)
    ground.router.closed(1, Fault("unsafe_weights", "pickled"))
    assert answer_of(opened).fault == Fault("unsafe_weights", "pickled")
    assert ground.router.serving(BASE, "cpu0") is None


def test_a_process_is_idle_from_its_last_answer_on_and_so_are_unused_models():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1, "ner:1")
    ground.router.attached_to(1, "ner:1")
    assert ground.router.rests() == []
    ground.clock.move(HALF_LIFE_S)
    ground.router.answered([Chunk(1)])
    assert ground.router.rests() == [IdleTarget(1, None, 1000.0 + HALF_LIFE_S, use=0.5)]
    ground.open(2)
    assert ground.router.rests() == [IdleTarget(1, "ner:1", 1000.0 + HALF_LIFE_S, use=0.5)]


def test_a_model_is_wanted_while_a_call_waits_for_it():
    ground = Ground()
    ground.router.became_ready(1)
    opened = ground.open(1, "ner:1")
    assert ground.router.wanted_models() == {(1, "ner:1")}
    ground.router.drop(opened)
    assert ground.router.wanted_models() == set()


def test_a_detached_model_is_attached_again_by_its_next_call():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1, "ner:1")
    ground.router.attached_to(1, "ner:1")
    ground.router.answered([Chunk(1)])
    ground.router.detach(1, "ner:1")
    assert ground.sent[-1] == Detach("ner:1")
    ground.open(2, "ner:1")
    assert ground.attaching == ["ner:1", "ner:1"]


def test_a_removed_model_is_detached_where_it_was():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1, "ner:1")
    ground.router.attached_to(1, "ner:1")
    ground.router.forget("ner:1")
    assert ground.sent[-1] == Detach("ner:1")


def test_a_model_removed_while_it_is_attached_is_not_found_rather_than_corrupt():
    ground = Ground()
    ground.router.became_ready(1)
    opened = ground.open(1, "ner:1")
    ground.router.attached_to(1, "ner:1")
    ground.router.forget("ner:1")
    ground.router.attach_failed(1, "ner:1", Fault("bad_input", "ner:1 has no adapter"))  # its folder is gone
    ground.router.answered([Chunk(1, fault=Fault("model_not_found", "no such model"))])
    assert answer_of(opened).fault == Fault("model_not_found", "no such model")


def test_only_calls_over_the_limit_of_their_class_are_refused():
    ground = Ground()
    for number in (1, 2, 3):
        ground.open(number, priority=Priority.BATCH)
    ground.clock.move(3.5)
    with fails_with(Busy, model=BASE, priority=Priority.BATCH, waiting=3, limit=3, retry_after_s=4):
        ground.open(4, priority=Priority.BATCH)
    ground.open(5)
    assert ground.router.in_flight == 4
    ground.router.became_ready(1)
    assert ground.asked() == [5, 1, 2, 3], "the higher class goes first"
    ground.open(6, priority=Priority.BATCH)
    assert ground.asked()[-1] == 6, "those that were sent wait no more"


def test_a_call_that_leaves_frees_its_place():
    ground = Ground()
    opened = [ground.open(number) for number in (1, 2, 3)]
    ground.router.drop(opened[1])
    ground.open(4)
    ground.router.became_ready(1)
    assert ground.asked() == [1, 3, 4]
    assert Cancel(2) not in ground.sent, "it was never sent"


def test_a_call_whose_time_is_over_is_not_sent_at_all():
    ground = Ground()
    late, other = ground.open(1, timeout_s=5.0), ground.open(2)
    ground.clock.move(5.0)
    ground.router.became_ready(1)
    assert ground.asked() == [2]
    fault = answer_of(late).fault
    assert fault is not None
    assert fault.code == "timed_out"
    assert not other.chunks


def large(number: int, priority: Priority = Priority.INTERACTIVE, size: int = IN_HAND_INPUTS) -> Call:
    return Call(number, BASE, "embed", ("x",) * size, priority=priority)


def test_a_full_process_gets_its_next_large_call_when_one_is_over_or_dropped():
    ground = Ground()
    ground.router.became_ready(1)
    first = ground.router.open(1, large(1))
    second, third = ground.router.open(1, large(2, Priority.BACKGROUND)), ground.router.open(1, large(3))
    assert ground.asked() == [1]
    ground.router.answered([Chunk(1)])
    assert ground.asked() == [1, 3]
    ground.router.drop(third)
    assert ground.sent[-2:] == [Cancel(3), Ask(second.call)]
    assert first.chunks


@pytest.mark.parametrize("priority", Priority)
def test_a_small_call_is_sent_beside_large_ones_however_many_wait(priority):
    ground = Ground()
    ground.router.became_ready(1)
    for number in (1, 2, 3):
        ground.router.open(1, large(number, priority))
    ground.open(4)
    assert ground.asked() == [1, 4]


def test_what_a_process_has_computed_of_a_large_call_is_no_longer_in_its_hands():
    ground = Ground()
    ground.router.became_ready(1)
    ground.router.open(1, large(1)), ground.router.open(1, large(2)), ground.router.open(1, large(3))
    ground.router.computed(1, 0.5)
    assert ground.asked() == [1, 2]
    ground.router.computed(1, 0.5), ground.router.computed(99, 1.0)
    assert ground.asked() == [1, 2]
    ground.crash()
    assert ground.asked() == [1], "what was computed is lost"
    for number in (1, 2, 3):
        ground.router.answered([Chunk(number)])
    assert ground.router.inputs_in_hand(1) == 0


def test_answers_and_documents_count_as_inputs_do():
    ground = Ground()
    ground.router.became_ready(1)
    many = Call(1, BASE, "generate", ("x",), {"n": IN_HAND_INPUTS})
    query = Call(2, BASE, "rerank", ({"query": "x", "documents": ["y"] * IN_HAND_INPUTS},))
    for call in (many, query):
        ground.router.open(1, call)
    assert ground.asked() == [1]


def test_what_the_dead_process_had_in_hand_goes_again_before_what_came_later():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1), ground.open(2)
    ground.router.lost(1)
    ground.sent.clear()
    ground.open(3)
    ground.router.became_ready(1)
    assert ground.asked() == [1, 2, 3]


def test_a_base_served_by_two_engines_has_a_process_for_each():
    ground = Ground()
    ground.router.serve(2, BASE, "cpu0", "llamacpp")
    assert ground.router.serving(BASE, "cpu0") == 1
    assert ground.router.serving(BASE, "cpu0", "llamacpp") == 2
    assert ground.router.serving(BASE, "cpu0", "vllm") is None


def test_a_restarting_process_answers_what_it_has_and_later_calls_wait():
    ground = Ground()
    ground.router.became_ready(1)
    sent = ground.open(1)
    ground.router.restarting(1)
    later = [ground.open(2), ground.open(3, "ner:1")]
    ground.router.answered([Chunk(1, ("y",))])
    assert answer_of(sent).outputs == ("y",)
    assert (ground.asked(), ground.attaching) == ([1], [])
    ground.router.lost(1)
    assert ground.asked() == [1]
    ground.router.became_ready(1)
    ground.router.attached_to(1, "ner:1")
    assert ground.asked() == [1, 2, 3]
    assert not any(one.chunks for one in later), "none of them failed"


def test_a_restart_is_no_crash_of_the_calls_that_it_meets():
    ground = Ground()
    ground.router.became_ready(1)
    opened = ground.open(1)
    for _ in range(4):
        ground.router.restarting(1)
        ground.crash()
        assert ground.asked() == [1], "it had not come to it, and has it again"
    assert opened.crashes == 0
    ground.crash()
    assert opened.crashes == 1


def test_a_call_is_timed_once_from_its_coming_until_a_process_has_it():
    ground = Ground()
    ground.open(1)
    ground.clock.move(2.0)
    ground.router.became_ready(1)
    ground.crash()
    assert ground.asked() == [1], "it was sent again"
    times = ground.router.queue_times
    assert times.sums == {(BASE, "interactive"): 2.0}
    assert sum(times.counts[BASE, "interactive"]) == 1


def test_the_last_chunk_is_given_the_time_until_its_process_had_the_call():
    ground = Ground()
    opened = ground.open(1)
    ground.clock.move(2.0)
    ground.router.became_ready(1)
    ground.clock.move(5.0)
    ground.router.answered([Chunk(1, times=CallTimes(compute_s=4.0))])
    assert opened.chunks[0].times == CallTimes(queue_s=2.0, compute_s=4.0, is_cold=True)


def test_a_model_is_unloaded_only_while_no_call_needs_it_and_asked_for_once():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1, "ner:1")
    ground.router.attached_to(1, "ner:1")
    for model in (BASE, "ner:1", "absent:1"):
        ground.router.unload(model)
    assert ground.router.unloads() == []  # its call is open, and it needs both
    assert ground.router.unloads() == []
    ground.router.answered([Chunk(1)])
    assert ground.router.unloads() == []  # the earlier request has been looked at
    ground.router.unload("ner:1"), ground.router.unload(BASE)
    assert ground.router.unloads() == [(1, "ner:1"), (1, None)]


def test_a_base_stays_while_another_model_of_its_process_answers():
    ground = Ground()
    ground.router.became_ready(1)
    ground.open(1, "ner:1")
    ground.router.attached_to(1, "ner:1")
    ground.open(2, "mood:1")
    ground.router.attached_to(1, "mood:1")
    ground.router.answered([Chunk(1)])
    ground.router.unload(BASE), ground.router.unload("ner:1")
    assert ground.router.unloads() == [(1, "ner:1")]


def test_unloading_has_the_scheduler_look():
    looks = []
    router = Router(
        lambda pid, frame: None, lambda pid, model: None, Clock(), max_waiting_calls=3, rested=lambda: looks.append(1)
    )
    router.unload("absent:1")
    assert looks == [1]


def test_only_calls_that_came_while_a_process_started_are_cold():
    ground = Ground()
    early = ground.open(1)
    ground.router.became_ready(1)
    late = ground.open(2)
    assert (early.is_cold, late.is_cold) == (True, False)
    ground.router.restarting(1)
    again = ground.open(3)
    assert again.is_cold, "it gives its memory to another, and comes again"


def test_after_a_crash_a_start_is_no_excuse():
    ground = Ground()
    early = ground.open(1)
    ground.router.lost(1)
    late = ground.open(2)
    assert (early.is_cold, late.is_cold) == (False, False)


def test_a_late_call_says_that_its_process_was_starting():
    ground = Ground()
    opened = ground.open(1, timeout_s=1.0)
    ground.clock.move(2.0)
    ground.router.became_ready(1)
    fault = answer_of(opened).fault
    assert fault is not None
    assert fault.detail == {"cold_start": True}
