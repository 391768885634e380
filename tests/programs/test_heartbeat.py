"""The heartbeat of a child: it tells whether the loop moves on, and whether the process does anything at all."""

from __future__ import annotations

from llmos.abi.frame import Beat
from llmos.programs.channel import LONGEST_TICK_S, Heartbeat, Pulse, Work, work_now
from llmos.testing.daemon import beside

NOTHING = Work(0.0, 0)


def test_a_loop_that_moves_is_not_stuck():
    pulse = Pulse(NOTHING)
    assert [pulse.tick(1.0, moves, NOTHING) for moves in (1, 2, 3)] == [Beat()] * 3


def test_a_loop_that_stands_still_is_stuck_since_its_last_move():
    pulse = Pulse(NOTHING)
    beats = [pulse.tick(1.0, moves, NOTHING) for moves in (1, 1, 1, 2, 2)]
    assert beats == [Beat(0, 0), Beat(1, 1), Beat(2, 2), Beat(0, 0), Beat(1, 1)]


def test_a_process_that_computes_or_reads_from_a_disk_is_stuck_but_not_still():
    pulse = Pulse(NOTHING)
    pulse.tick(1.0, 1, NOTHING)
    assert pulse.tick(1.0, 1, Work(0.5, 0)) == Beat(1.0, 0.0)
    assert pulse.tick(1.0, 1, Work(0.501, 0)) == Beat(2.0, 1.0)
    assert pulse.tick(1.0, 1, Work(0.502, 7)) == Beat(3.0, 0.0)


def test_time_in_which_the_process_was_stopped_does_not_count():
    pulse = Pulse(NOTHING)
    pulse.tick(1.0, 1, NOTHING)
    assert pulse.tick(3_600.0, 1, NOTHING) == Beat(LONGEST_TICK_S, LONGEST_TICK_S)


def test_what_a_process_has_done_only_grows():
    before = work_now()
    sum(range(300_000))
    after = work_now()
    assert after.cpu_s > before.cpu_s
    assert after.disk_reads >= before.disk_reads


def test_the_daemon_hears_it_by_itself():
    heard: list[object] = []
    daemon, channel, close = beside(heard.append)
    heartbeat = Heartbeat(channel, every_s=0.001)
    heartbeat.start()
    while not heard:
        channel.receive(0.001)
    heartbeat.stop()
    close()
    assert isinstance(heard[0], Beat)
    assert daemon.said == heard
