"""The budget of request bodies: after a large one, its memory goes back to the operating system, once for many."""

from __future__ import annotations

import asyncio

import pytest

from llmos.abi.error import Busy
from llmos.api.endpoint import MUCH_BYTES, BodyBudget
from llmos.testing.errors import fails_with


def test_what_is_held_is_given_back_when_the_request_ends():
    budget = BodyBudget(100)
    share = budget.share()
    share.take(70)
    with fails_with(Busy, held_bytes=70, limit=100):
        share.take(31)
    share.give_back()
    share.give_back()
    assert budget.held_bytes == 0


def ask(budget, size_bytes):
    share = budget.share()
    share.take(size_bytes)
    share.give_back()


@pytest.mark.parametrize(("sizes", "times"), [((MUCH_BYTES,), 1), ((MUCH_BYTES, 7, MUCH_BYTES), 1), ((10, 7), 0)])
def test_the_heap_is_asked_after_large_requests_once_for_those_that_end_together(sizes, times):
    asked = []

    async def main():
        is_asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def heap():
            asked.append(1)
            loop.call_soon_threadsafe(is_asked.set)

        budget = BodyBudget(10 * MUCH_BYTES, heap, soon_s=0.0)
        for size in sizes:
            ask(budget, size)
        if times:
            await is_asked.wait()
            ask(budget, MUCH_BYTES)  # and again after the next one
            is_asked.clear()
            await is_asked.wait()

    asyncio.run(main())
    assert len(asked) == 2 * times
