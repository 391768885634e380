"""Beside bulk calls on the same base, who asks little is answered while they are still under way."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from llmos.abi.error import TimedOut

pytestmark = pytest.mark.acceptance

TEXT = "a parcel that has not come yet and that nobody has seen " * 5  # 60 words
ASKED = 5


@pytest.mark.parametrize("classes", [("interactive",), ("background",), ("background", "batch", "interactive")])
def test_a_small_call_is_answered_while_full_bulk_calls_of_its_class_and_lower_are_under_way(minilm, classes):
    def bulk(klass: str) -> int:
        with minilm.client() as box:
            try:
                return len(box.run("minilm", [f"{n} {TEXT}" for n in range(2048)], klass=klass, timeout_s=60))
            except TimedOut:  # a slow machine: it was under way all that time
                return 2048

    with minilm.client() as box, ThreadPoolExecutor(len(classes)) as pool:
        assert box.run("minilm", "warm").vector
        work = [pool.submit(bulk, klass) for klass in classes]
        while box.status().in_flight < len(classes):
            assert not any(one.done() for one in work), "a bulk call was over before the neighbour came"
        for number in range(ASKED):
            assert box.run("minilm", f"where is parcel {number}?").vector
        assert not any(one.done() for one in work), "the bulk calls were over before the neighbour was answered"
        assert [one.result() for one in work] == [2048] * len(classes)
