"""A verb that waits for a daemon which is stopped or hangs ends with a sentence; one that is slow is waited for."""

from __future__ import annotations

import signal
import socket

import pytest

from llmos.abi.error import Unavailable
from llmos.cli.watch import LOOKS, Watch, watching
from llmos.testing.errors import fails_with


def looks(answers, stopped=None):
    """How many looks it takes until the watch raises, with these answers one after another; None if it never does."""
    told = iter(answers)
    watch = Watch("http://box", lambda url: next(told), lambda: stopped)
    for number in range(len(answers)):
        try:
            watch.look()
        except Unavailable:
            return number + 1
    return None


def test_one_silence_is_no_hanging_and_several_in_a_row_are():
    assert looks([False] * LOOKS) == LOOKS
    assert looks([False, True] * 5) is None
    assert looks([True, False, True, False, False, True]) == 5


def test_one_that_a_signal_has_stopped_is_said_at_once_with_what_lets_it_go_on():
    assert looks([True], stopped=77) == 1
    with fails_with(Unavailable, url="http://box", os_pid=77):
        Watch("http://box", lambda url: True, lambda: 77).look()


def test_one_that_hangs_is_said_with_the_way_out():
    watch = Watch("http://box", lambda url: False, lambda: None)
    for _ in range(LOOKS - 1):
        watch.look()
    with fails_with(Unavailable, url="http://box", hangs=True):
        watch.look()


def test_the_alarm_interrupts_whatever_is_waited_for_and_is_off_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    before = signal.getsignal(signal.SIGALRM)
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    ours, theirs = socket.socketpair()

    class Stop(Exception):
        pass

    def look():
        raise Stop

    with ours, theirs, pytest.raises(Stop), watching(look, every_s=0.01):
        ours.recv(1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_an_alarm_that_finds_nothing_wrong_disturbs_nothing():
    ours, theirs = socket.socketpair()
    looked = []

    def look():
        looked.append(1)
        if len(looked) == 3:
            theirs.send(b"x")

    with ours, theirs, watching(look, every_s=0.01):
        assert ours.recv(1) == b"x"
    assert len(looked) >= 3


def test_a_daemon_that_is_gone_does_not_hang():
    watch = Watch("http://127.0.0.1:1", stopped=lambda: None)
    for _ in range(2 * LOOKS):
        watch.look()
