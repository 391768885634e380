"""SLOs: kept by their name, counted, told once when they burn, and there again after a restart."""

import asyncio

import pytest

from llmos.abi.error import NotFound
from llmos.kernel.event_stream import EventStream
from llmos.kernel.slos.slo_service import SloService

START = 1_750_003_200.0


class Box:
    """A service with orders in memory, and a clock that the test moves."""

    def __init__(self, folder):
        self.folder, self.orders, self.now = folder, {}, START
        self.events = EventStream(lambda: self.now)
        self.told = []
        self.begin()

    def begin(self):
        self.slos = SloService(
            self.folder, lambda: self.orders, self.write, lambda name: None, self.events, lambda: self.now
        )
        self.slos.start()

    async def write(self, slo):
        self.orders.pop(slo.name, None)
        if slo.objectives:
            self.orders[slo.name] = slo

    def calls(self, count, outcome="ok", seconds=0.01, ref="mood:2"):
        for _ in range(count):
            self.slos.note(ref, outcome, seconds)


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "slos")


def test_slow_and_failed_calls_use_the_budget_and_bad_input_does_not(box):
    async def act():
        assert not box.slos.is_on
        await box.slos.set("mood", {"p90": "50ms", "errors": "10%"})
        box.calls(80)
        box.calls(12, seconds=0.06)
        box.calls(8, outcome="timed_out")
        box.calls(50, outcome="bad_input")
        box.calls(50, outcome="cancelled")
        box.calls(50, ref="other:1")
        slow, failed = box.slos.get("mood").objectives
        assert (slow.calls, slow.bad, failed.bad) == (100, 20, 8)
        assert (slow.budget_left, failed.budget_left) == (pytest.approx(-1.0), pytest.approx(0.2))
        assert [one.name for one in box.slos.all()] == ["mood"]

    asyncio.run(act())


def test_a_budget_that_burns_is_told_once_and_its_end_too(box):
    async def act():
        await box.slos.set("mood", {"errors": "1%"})
        watching = box.events.watch()
        first = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        box.calls(100, outcome="internal")
        for _ in range(4):
            box.now += 5.0
            box.slos.tick()
        told = (await first).data
        assert (told["model"], told["objective"], told["severity"]) == ("mood", "errors<=1%", "page")
        assert told["burn_rates"]["1h"] == pytest.approx(100.0)
        box.now += 7 * 3600
        second = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        box.slos.tick()
        assert (await second).data["severity"] == ""
        await watching.aclose()
        await box.slos.close()

    asyncio.run(act())


def test_counters_are_there_after_a_restart_and_gone_for_other_objectives(box):
    async def act():
        await box.slos.set("mood", {"errors": "1%"})
        box.calls(7)
        await box.slos.close()
        box.begin()
        assert box.slos.get("mood").objectives[0].calls == 7
        await box.slos.set("mood", {"errors": "2%"})
        assert box.slos.get("mood").objectives[0].calls == 0
        await box.slos.remove("mood")
        with pytest.raises(NotFound):
            box.slos.get("mood")
        assert not box.slos.is_on

    asyncio.run(act())


def test_a_damaged_file_of_counters_stops_nothing(box):
    async def act():
        await box.slos.set("mood", {"errors": "1%"})
        box.calls(7)
        await box.slos.close()
        (box.folder / "mood.json").write_text("{")
        box.begin()
        assert box.slos.get("mood").objectives[0].calls == 0

    asyncio.run(act())
