"""Who runs: admission, waiting, eviction."""

from __future__ import annotations

from dataclasses import replace

from llmos.abi.process import Priority, Process, Spec, State
from llmos.kernel.events import Admitted, Delayed, Displaced, Evicted
from llmos.kernel.processes.eviction import EvictionCandidate
from llmos.kernel.processes.scheduler import View, backoff_s, schedule


def queued(pid: int, need_bytes: int, program: str = "serve", priority: Priority = Priority.INTERACTIVE) -> Process:
    return Process(pid, Spec(program, priority=priority, need_bytes=need_bytes))


def view(
    *waiting: Process, free: int = 10, running: tuple[Process, ...] = (), idle: tuple[EvictionCandidate, ...] = ()
) -> View:
    return View(at=50.0, queued=waiting, running=running, free_bytes={"cpu0": free}, leaving_bytes={}, idle=idle)


def test_a_process_that_fits_starts_and_one_that_does_not_waits_with_its_numbers():
    events = schedule(view(queued(1, 6), queued(2, 6)))
    assert events[0] == Admitted(50.0, 1)
    assert isinstance(events[1], Delayed)
    assert "waits for memory of cpu0" in events[1].reason


def test_a_cold_process_yields_its_memory_to_a_queued_one():
    cold, warm = EvictionCandidate(1, since=10.0, held_bytes=4), EvictionCandidate(2, since=20.0, held_bytes=4)
    events = schedule(view(queued(3, 4), free=0, idle=(warm, cold)))
    assert events[0] == Evicted(50.0, 1, "room for pid 3")
    assert all(not isinstance(event, Evicted) for event in events[1:])


def test_nobody_is_evicted_if_even_that_would_not_be_enough():
    events = schedule(view(queued(3, 40), free=0, idle=(EvictionCandidate(1, 10.0, 4),)))
    assert [type(event) for event in events] == [Delayed]


def test_an_idle_model_of_a_busy_process_makes_room_too():
    events = schedule(view(queued(3, 4), free=0, idle=(EvictionCandidate(1, 10.0, 4, "mood:1"),)))
    assert events[0] == Displaced(50.0, 1, "mood:1", "room for pid 3")


def test_nobody_is_evicted_for_memory_that_is_coming_free_anyway():
    one = replace(view(queued(3, 4), free=0, idle=(EvictionCandidate(1, 10.0, 4),)), leaving_bytes={"cpu0": 4})
    assert [type(event) for event in schedule(one)] == [Delayed]


def ready(pid: int, started_at: float) -> Process:
    spec = Spec("serve", need_bytes=8 << 20, title=f"serve base {pid}")
    return Process(pid, spec, State.READY, started_at=started_at)


def test_what_turned_out_bigger_than_was_estimated_makes_what_is_idle_give_way():
    events = schedule(view(free=-4, running=(ready(1, 1.0), ready(2, 2.0)), idle=(EvictionCandidate(1, 10.0, 4),)))
    assert [type(event) for event in events] == [Evicted]
    assert events[0].pid == 1


def test_what_turned_out_bigger_and_finds_nothing_idle_goes_itself_and_says_why():
    (event,) = schedule(
        view(free=-3 << 20, running=(ready(1, 1.0), ready(2, 2.0)), idle=(EvictionCandidate(1, 10.0, 4),))
    )
    assert isinstance(event, Evicted)
    assert event.pid == 2
    assert "serve base 2 needs 8 MiB, 3 MiB more of cpu0 than there is" in event.reason


def test_a_device_that_is_overdrawn_by_what_is_leaving_needs_nobody_else_to_go():
    one = replace(view(free=-4, running=(ready(1, 1.0),)), leaving_bytes={"cpu0": 4})
    assert schedule(one) == []


def test_the_interactive_start_before_the_background_whatever_their_pids():
    slow = queued(1, 6, "train", Priority.BACKGROUND)
    events = schedule(view(slow, queued(2, 6)))
    assert Admitted(50.0, 2) in events
    assert Admitted(50.0, 1) not in events


def test_small_ones_behind_a_big_one_wait_so_that_it_is_not_passed_for_ever():
    events = schedule(view(queued(1, 20), queued(2, 1)))
    assert not any(isinstance(event, Admitted) for event in events)


def test_one_training_run_at_a_time_on_a_device():
    training = replace(queued(1, 1, "train", Priority.BACKGROUND), state=State.READY)
    (event,) = schedule(view(queued(2, 1, "train", Priority.BACKGROUND), running=(training,)))
    assert isinstance(event, Delayed)
    assert "waits for pid 1" in event.reason
    resting = replace(training, state=State.SUSPENDED)
    assert schedule(view(queued(2, 1, "train"), running=(resting,))) == [Admitted(50.0, 2)]


def test_everybody_but_the_probe_waits_until_the_devices_are_measured():
    events = schedule(replace(view(queued(1, 1), queued(2, 1, "probe")), is_probing=True))
    assert Admitted(50.0, 2) in events
    assert Admitted(50.0, 1) not in events


def test_a_serve_process_nobody_calls_ends_after_its_time():
    idle = (EvictionCandidate(1, since=10.0, held_bytes=4), EvictionCandidate(2, since=45.0, held_bytes=4))
    events = schedule(replace(view(idle=idle), idle_timeout_s=30.0))
    assert [event.pid for event in events if isinstance(event, Evicted)] == [1]


def test_backoff_doubles_up_to_half_a_minute():
    assert [backoff_s(crashes) for crashes in (1, 2, 3, 50)] == [0.1, 0.2, 0.4, 30.0]


def test_what_a_client_asks_to_be_unloaded_goes_unless_a_call_came_meanwhile():
    reason = "a client asked for it to be unloaded"
    there = view(idle=(EvictionCandidate(1, since=10.0, held_bytes=4),))
    asked = [(1, None), (2, None), (2, "ner:1")]  # 2 has calls: its process is no candidate
    assert schedule(replace(there, unloads=asked)) == [
        Displaced(50.0, 2, "ner:1", reason), Evicted(50.0, 1, reason),
    ]  # fmt: skip


def test_what_leaves_to_make_room_is_not_unloaded_again():
    there = view(queued(3, 4), free=0, idle=(EvictionCandidate(1, since=10.0, held_bytes=4),))
    events = schedule(replace(there, unloads=[(1, None)]))
    assert [event for event in events if isinstance(event, Evicted)] == [Evicted(50.0, 1, "room for pid 3")]
