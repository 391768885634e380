"""Usage in memory: written at once where somebody asks, kept where it cannot be written, and bounded."""

import asyncio

import pytest

from llmos.abi.usage import UsageFilter, UsagePart
from llmos.kernel.usage.usage_file import DAY_S, FILE
from llmos.kernel.usage.usage_service import OTHERS, UsageService

NOON = 1_750_000_000.0


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def service(home, clock, **options):
    return UsageService(home, 30, clock=clock, **options)


def count(usage, key="k", model="m:1", *, is_ok=True, tokens=(3, 2)):
    usage.count(key, model, is_ok=is_ok, input_tokens=tokens[0], output_tokens=tokens[1])


def totals(usage, **wanted):
    found = asyncio.run(usage.find(UsageFilter(**wanted)))
    return [(one.key, one.model, one.requests, one.errors, one.input_tokens, one.output_tokens) for one in found]


def test_what_is_counted_is_shown_at_once(tmp_path, clock):
    usage = service(tmp_path, clock)
    count(usage)
    count(usage, is_ok=False, tokens=(0, 0))
    assert totals(usage) == [("k", "m:1", 2, 1, 3, 2)]


def test_usage_is_there_after_a_restart_and_goes_on(tmp_path, clock):
    for _ in range(3):
        usage = service(tmp_path, clock)
        count(usage)
        usage.close()
    assert totals(service(tmp_path, clock)) == [("k", "m:1", 3, 0, 9, 6)]


def test_a_kill_loses_only_what_was_not_written(tmp_path, clock):
    usage = service(tmp_path, clock)
    count(usage)
    asyncio.run(usage.write())
    count(usage)  # nobody writes it any more
    assert totals(service(tmp_path, clock)) == [("k", "m:1", 1, 0, 3, 2)]


def test_a_call_counts_for_the_day_on_which_it_ended(tmp_path, clock):
    usage = service(tmp_path, clock)
    count(usage)
    clock.now += DAY_S
    count(usage)
    assert len(totals(usage)) == 2
    assert totals(usage, by=(UsagePart.KEY,)) == [("k", "", 2, 0, 6, 4)]


def test_days_that_are_over_go(tmp_path, clock):
    usage = service(tmp_path, clock)
    count(usage)
    asyncio.run(usage.write())
    clock.now += 30 * DAY_S
    count(usage, "new")
    assert [one[0] for one in totals(usage)] == ["new"]


def test_what_cannot_be_written_is_kept_and_written_later(tmp_path, clock, caplog):
    home = tmp_path / "home"
    usage = service(home, clock)
    count(usage)
    asyncio.run(usage.write())
    count(usage)
    asyncio.run(usage.write())
    assert [one.levelname for one in caplog.records] == ["ERROR"]  # once a minute
    home.mkdir()
    assert totals(usage) == [("k", "m:1", 2, 0, 6, 4)]


def test_what_waits_is_bounded_and_no_request_is_lost(tmp_path, clock):
    home = tmp_path / "home"
    usage = service(home, clock, most_waiting=2)
    for round_ in range(3):
        for number in range(4):
            count(usage, f"k{round_}{number}")
        asyncio.run(usage.write())
    home.mkdir()
    found = totals(usage)
    assert sum(one[2] for one in found) == 12
    assert [one[0] for one in found] == [OTHERS, "k00", "k01"]


def test_a_damaged_file_stops_nothing(tmp_path, clock, caplog):
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    usage = service(tmp_path, clock)
    usage.open()
    assert usage.used_before_start("k") == (0, 0)
    count(usage)
    asyncio.run(usage.write())
    assert {one.levelname for one in caplog.records} == {"ERROR"}


def test_keys_go_on_from_what_they_had_used_today(tmp_path, clock):
    before = service(tmp_path, clock)
    count(before)
    count(before, model="m:2")
    count(before, "other")
    before.close()
    usage = service(tmp_path, clock)
    usage.open()
    assert [usage.used_before_start(key) for key in ("k", "other", "new")] == [(2, 10), (1, 5), (0, 0)]
    clock.now += DAY_S
    assert usage.used_before_start("k") == (0, 0)


def test_counts_that_come_while_others_are_written_are_kept(tmp_path, clock):
    usage = service(tmp_path, clock)

    async def count_meanwhile():
        count(usage)
        writing = asyncio.ensure_future(usage.write())
        await asyncio.sleep(0)
        count(usage)
        await writing

    asyncio.run(count_meanwhile())
    assert totals(usage)[0][2] == 2
