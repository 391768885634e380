"""The alert service over a book in memory: when alerts begin and end, and who is told, how often and under which id."""

import asyncio

import pytest

from llmos.abi.alert import AlertSilence, AlertState, AlertStatus
from llmos.abi.error import BadInput, Conflict, NotFound
from llmos.kernel.alerts.alert_book import AlertDeliveryEnded
from llmos.kernel.alerts.channels import SendFailure
from llmos.kernel.alerts.outbox import BACKOFF_S
from llmos.kernel.alerts.windows import MetricSample
from llmos.kernel.events import Hung
from llmos.testing.alerts import MemoryActions, MemoryBook, MemorySender, memory_alerts

CHANNELS = '[channels.team]\nurl = "https://a.example"\n[channels.pager]\ncommand = ["/bin/true"]\n'
BUSY = CHANNELS + '[rules.busy]\nwhen = "llmos_calls_in_flight > 5"\nchannels = ["team"]\n'
EVENT = CHANNELS + '[rules.drift]\nwhen = \'events("drift", 10m) > 0\'\nchannels = ["team"]\n'


class Box:
    """A service with its fakes, and a clock that a test moves."""

    def __init__(self, home, text=BUSY, book=None):
        self.home, self.now, self.in_flight = home, 1_750_000_000.0, 0
        self.book, self.actions, self.sender = book or MemoryBook(), MemoryActions(), MemorySender()
        self.service = memory_alerts(home, lambda: self.now, book=self.book, actions=self.actions, sender=self.sender)
        self.service.read_from(lambda: [MetricSample("llmos_calls_in_flight", {}, self.in_flight)])
        self.write(text)

    def write(self, text):
        (self.home / "alerts.toml").write_text(text)

    async def look(self, after=0.0, in_flight=None):
        """Look after so many seconds, and wait for what is sent then."""
        self.now += after
        self.in_flight = self.in_flight if in_flight is None else in_flight
        await self.service.look()
        while tasks := [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    @property
    def told(self):
        return [(one.channel, one.status) for one in self.sender.sent]


def run(work):
    asyncio.run(work)


FIRING, RESOLVED = ("team", AlertStatus.FIRING), ("team", AlertStatus.RESOLVED)


def test_an_alert_is_told_once_however_often_it_is_looked_at_and_its_end_too(tmp_path):
    async def go():
        box = Box(tmp_path)
        for in_flight in (0, 6, 7, 8, 2, 1):
            await box.look(5, in_flight)
        assert box.told == [FIRING, RESOLVED]
        first, last = box.sender.sent
        assert first.alert.value == 6
        assert first.alert.id == last.alert.id
        assert first.id != last.id
        assert last.alert.ended_at - last.alert.started_at == 15
        assert box.book.book.firing == {}
        assert box.book.book.deliveries == {}

    run(go())


def test_for_asks_that_it_is_true_without_a_break(tmp_path):
    async def go():
        box = Box(tmp_path, BUSY + 'for = "1m"\n')
        for in_flight in (6, 6, 0, 6, 6):
            await box.look(29, in_flight)
        assert box.told == []
        assert box.service.view().rules[0].is_true
        await box.look(31, 6)
        assert box.told == [FIRING]

    run(go())


def test_a_silenced_rule_is_told_when_the_silence_ends_if_it_is_still_true(tmp_path):
    async def go():
        box = Box(tmp_path)
        await box.look()
        made = await box.service.silence("busy", 3600, "work on the disk")
        assert made == AlertSilence("busy", box.now, box.now + 3600, "work on the disk")
        await box.look(5, 6)
        assert box.told == []
        assert box.book.book.firing["busy"].notified_at is None
        await box.look(3600)
        assert box.told == [FIRING]

    run(go())


def test_the_end_of_an_alert_that_nobody_was_told_of_is_not_told(tmp_path):
    async def go():
        box = Box(tmp_path)
        await box.look()
        await box.service.silence("busy", 60, "")
        await box.look(5, 6)
        await box.look(5, 0)
        await box.look(100)
        assert box.told == []
        assert box.book.book.ended[0].reason
        await box.service.silence("busy", 60, "")
        await box.service.end_silence("busy")
        await box.look(5, 6)
        assert box.told == [FIRING]

    run(go())


def test_it_is_told_again_after_repeat_until_somebody_acknowledges_it(tmp_path):
    async def go():
        box = Box(tmp_path, BUSY + 'repeat = "1h"\n')
        await box.look(0, 6)
        for _ in range(24):
            await box.look(300)
        assert box.told == [FIRING] * 3
        assert (await box.service.acknowledge("busy")).acknowledged_at == box.now
        for _ in range(24):
            await box.look(300)
        await box.look(5, 0)
        assert box.told == [FIRING] * 3 + [RESOLVED]
        with pytest.raises(NotFound):
            await box.service.acknowledge("busy")

    run(go())


def test_a_message_that_does_not_arrive_is_sent_again_later_under_the_same_id(tmp_path):
    async def go():
        box = Box(tmp_path)
        box.sender.failure = SendFailure("503")
        await box.look(0, 6)
        (waiting,) = box.book.book.deliveries.values()
        assert (waiting.attempts, waiting.error, waiting.next_at) == (1, "503", box.now + BACKOFF_S[0])
        await box.look(BACKOFF_S[0] - 1)
        assert next(iter(box.book.book.deliveries.values())).attempts == 1
        box.sender.failure = None
        await box.look(1)
        assert [one.id for one in box.sender.sent] == [waiting.id]
        assert box.book.book.deliveries == {}
        await box.look(10_000)
        assert len(box.sender.sent) == 1

    run(go())


def test_a_message_is_given_up_after_more_than_a_day_or_at_once_if_it_is_hopeless(tmp_path):
    async def go():
        box = Box(tmp_path)
        box.sender.failure = SendFailure("503")
        await box.look(0, 6)
        began = box.now
        for wait_s in BACKOFF_S:
            assert box.book.book.deliveries
            await box.look(wait_s)
        assert box.book.book.deliveries == {}
        assert box.now - began > 24 * 3600
        assert box.service.view().channels[0].error == "503"
        box.sender.failure = SendFailure("410 Gone", is_final=True)
        await box.look(5, 0)
        assert box.book.book.deliveries == {}
        assert [one.error for one in box.book.events if isinstance(one, AlertDeliveryEnded)] == ["503", "410 Gone"]

    run(go())


def test_what_was_not_sent_before_a_restart_is_sent_after_it_and_nothing_twice(tmp_path):
    async def go():
        box = Box(tmp_path)
        box.sender.failure = SendFailure("no network")
        await box.look(0, 6)
        (waiting,) = box.book.book.deliveries.values()
        again = Box(tmp_path, book=MemoryBook(box.book.book))
        await again.look(60, 6)
        assert [(one.id, one.status) for one in again.sender.sent] == [(waiting.id, AlertStatus.FIRING)]
        third = Box(tmp_path, book=MemoryBook(again.book.book))
        await third.look(60, 6)
        assert third.sender.sent == []

    run(go())


def test_a_restart_ends_no_alert_before_its_window_was_watched_again(tmp_path):
    async def go():
        box = Box(tmp_path, EVENT)
        await box.look()
        box.service.see("drift", lambda: {"model": "support"})
        await box.look()
        again = Box(tmp_path, EVENT, MemoryBook(box.book.book))
        await again.look(5)
        await again.look(500)
        assert again.book.book.firing["drift"].state is AlertState.FIRING
        await again.look(200)
        assert again.told == [RESOLVED]

    run(go())


def test_an_event_fires_a_rule_with_its_data_and_it_ends_with_the_window(tmp_path):
    async def go():
        box = Box(tmp_path, EVENT)
        await box.look()
        box.service.see("other", lambda: pytest.fail("nobody counts it"))
        box.service.see("drift", lambda: {"model": "support", "p": 0.001})
        await box.look()
        assert box.sender.sent[0].alert.data == {"model": "support", "p": 0.001}
        await box.look(599)
        assert box.told == [FIRING]
        await box.look(2)
        assert box.told == [FIRING, RESOLVED]

    run(go())


def test_events_of_the_kernel_are_counted_by_their_names_in_small_letters(tmp_path):
    async def go():
        box = Box(tmp_path, EVENT.replace('events("drift", 10m)', 'events("hung", 10m, pid="7")'))
        await box.look()
        box.service.see_kernel_event(Hung(box.now, 6, 1, "late"))
        await box.look()
        assert box.told == []
        box.service.see_kernel_event(Hung(box.now, 7, 1, "late"))
        await box.look()
        assert box.sender.sent[0].alert.data["reason"] == "late"

    run(go())


def test_a_changed_file_is_followed_and_a_mistake_leaves_the_rules_in_force(tmp_path):
    async def go():
        box = Box(tmp_path)
        await box.look(0, 6)
        box.write(BUSY + "for = 'x'\n")
        await box.look(5)
        view = box.service.view()
        assert "line" in view.problem
        assert [one.name for one in view.rules] == ["busy"]
        with pytest.raises(BadInput) as caught:
            await box.service.reload()
        assert caught.value.detail["line"] == 8
        assert box.book.book.firing.keys() == {"busy"}
        box.write(CHANNELS)
        assert (await box.service.reload()).rules == ()
        await box.look()
        assert box.told == [FIRING, RESOLVED]
        assert box.book.book.ended[0].reason == "the rule is gone"
        (tmp_path / "alerts.toml").unlink()
        await box.look()
        assert box.service.view().channels == ()

    run(go())


def test_a_rule_starts_a_program_once_for_each_alert_and_not_while_it_is_silenced(tmp_path):
    start = 'start = {program = "train", args = {name = "support"}}\n'

    async def go():
        box = Box(tmp_path, BUSY.replace('channels = ["team"]', "channels = []") + 'repeat = "1m"\n' + start)
        await box.look()
        await box.service.silence("busy", 60, "")
        await box.look(5, 6)
        assert box.actions.acted == []
        for _ in range(5):
            await box.look(60)
        assert box.actions.acted == [{"start": {"program": "train", "args": {"name": "support"}}}]
        await box.look(5, 0)
        await box.look(5, 6)
        assert len(box.actions.acted) == 2

    run(go())


def test_a_rollback_names_the_version_that_it_leaves_and_is_tried_once(tmp_path):
    async def go():
        box = Box(tmp_path, BUSY + 'rollback = "support"\n')
        box.actions.promoted_versions = {"support": 3}
        await box.look(0, 6)
        assert box.actions.acted == [{"rollback": "support", "from": 3}]
        await box.look(5, 0)
        box.actions.failure = Conflict("nothing before it")
        await box.look(5, 6)
        assert box.book.book.deliveries == {}
        assert box.service.outbox.errors["action"] == "nothing before it"

    run(go())


def test_a_slow_channel_delays_no_other_and_gets_one_message_at_a_time(tmp_path):
    async def go():
        box = Box(tmp_path, BUSY.replace('["team"]', '["team", "pager"]'))
        box.sender.failure = SendFailure("503")
        await box.look(0, 6)
        await box.look(4, 0)
        assert sorted(one.channel for one in box.book.book.deliveries.values()) == ["pager", "pager", "team", "team"]
        box.sender.failure = None
        await box.look(10)
        assert box.told.count(("pager", AlertStatus.FIRING)) == box.told.count(FIRING) == 1
        assert box.told.index(FIRING) < box.told.index(RESOLVED)

    run(go())


def test_a_test_message_goes_to_one_channel_or_to_all_and_leaves_nothing_behind(tmp_path):
    async def go():
        box = Box(tmp_path)
        await box.look()
        assert [one.channel for one in await box.service.test(None)] == ["team", "pager"]
        box.sender.failure = SendFailure("refused")
        assert [(one.channel, one.error) for one in await box.service.test("pager")] == [("pager", "refused")]
        assert {one.status for one in box.sender.sent} == {AlertStatus.TEST}
        with pytest.raises(NotFound):
            await box.service.test("nobody")
        assert box.book.events == []

    run(go())


def test_only_rules_that_are_there_are_silenced_and_for_a_time_that_ends(tmp_path):
    async def go():
        box = Box(tmp_path)
        await box.look()
        with pytest.raises(NotFound):
            await box.service.silence("nobody", 60, "")
        for seconds in (0, -1, 1e9, float("nan")):
            with pytest.raises(BadInput):
                await box.service.silence("busy", seconds, "")

    run(go())


def test_no_rule_counts_the_events_that_alerts_make(tmp_path):
    async def go():
        box = Box(tmp_path, EVENT.replace('"drift"', '"alert"'))
        with pytest.raises(BadInput):
            await box.service.reload()

    run(go())


def test_the_service_looks_by_itself_when_an_event_comes(tmp_path):
    async def go():
        box = Box(tmp_path, EVENT)
        await box.service.look()
        box.service.begin()
        box.service.see("drift", dict)
        assert await asyncio.to_thread(box.sender.came.wait, 60)
        await box.service.close()
        assert box.told == [FIRING]

    run(go())
