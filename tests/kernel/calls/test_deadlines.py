"""Deadlines of many calls by one timer: each expires once, in time, and one that was taken back never does."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.call import Call, Chunk
from llmos.kernel.calls.call_queue import GRAIN_S, Deadlines, PendingCall


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time the test moves, and which counts the timers that it was asked for."""

    def __init__(self):
        super().__init__()
        self.now, self.timers = 0.0, 0

    def time(self):
        return self.now

    def call_at(self, when, callback, *args, context=None):
        self.timers += 1
        return super().call_at(when, callback, *args, context=context)

    async def pass_to(self, at):
        """Move on to this time, from timer to timer."""
        await turns()
        while (due := min((one.when() for one in self._scheduled if not one.cancelled()), default=at)) < at:
            self.now = max(self.now, due)
            await turns()
        self.now = at
        await turns()


async def turns():
    for _ in range(4):
        await asyncio.sleep(0)


def opened(number):
    return PendingCall(Call(number, "tiny:1", "embed", ("x",)), 1)


async def waited(deadlines, one, within_s):
    """How the wait for a piece ended, and when."""
    loop = asyncio.get_running_loop()
    deadlines.set(one, within_s)
    try:
        await one.take()
        return "answered", loop.time()
    except TimeoutError:
        return "expired", loop.time()
    finally:
        deadlines.take_back(one)


def on_clock(act):
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(act(runner.get_loop()))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.001, 5.0), st.floats(0.001, 6.0)), max_size=12))
def test_each_wait_ends_by_its_answer_or_by_its_time_whichever_is_first(waits):
    """Of each: when it begins, its time, and after how long its answer is there."""

    async def act(loop):
        deadlines, ends = Deadlines(), {}

        def begin(number, within_s, answered_s):
            one = opened(number)
            ends[number] = asyncio.ensure_future(waited(deadlines, one, within_s))
            loop.call_later(answered_s, one.put, Chunk(number))

        for number, (at, within_s, answered_s) in enumerate(waits):
            loop.call_later(at, begin, number, within_s, answered_s)
        await loop.pass_to(12.0)
        for number, (at, within_s, answered_s) in enumerate(waits):
            how, ended_at = ends[number].result()
            if within_s < answered_s - 2 * GRAIN_S:
                assert (how, at + within_s <= ended_at + 1e-9, ended_at <= at + within_s + GRAIN_S + 1e-9) == (
                    "expired", True, True,
                )  # fmt: skip
            elif answered_s < within_s:
                assert (how, ended_at) == ("answered", pytest.approx(at + answered_s))

    on_clock(act)


def test_a_thousand_calls_that_are_answered_take_one_timer():
    async def act(loop):
        deadlines = Deadlines()
        for number in range(1000):
            one = opened(number)
            one.put(Chunk(number))
            assert (await waited(deadlines, one, 300.0))[0] == "answered"
            loop.now += 0.001
        assert loop.timers == 1
        await loop.pass_to(1000.0)
        assert loop.timers == 1  # and none once nobody waits

    on_clock(act)


def test_a_shorter_wait_that_comes_later_is_over_earlier():
    async def act(loop):
        deadlines = Deadlines()
        long = asyncio.ensure_future(waited(deadlines, opened(1), 300.0))
        short = asyncio.ensure_future(waited(deadlines, opened(2), 1.0))
        await loop.pass_to(2.0)
        assert (short.result()[0], long.done()) == ("expired", False)
        await loop.pass_to(301.0)
        assert long.result()[0] == "expired"

    on_clock(act)
