"""Burn rates: the windows and factors of the workbook, and how soon a bad hour is told."""

import pytest

from llmos.abi.slo import objectives_of
from llmos.kernel.slos.burn_rate import LEAST_BAD, objective_state
from llmos.kernel.slos.slo_counts import SloCounts

(ERRORS,) = objectives_of({"errors": "0.1%"})
START = 1_750_003_200.0
MINUTE = 60.0


def after(minutes, share_of, per_minute=1_000):
    """How it stands after each minute; `share_of` gives the share of bad calls of a minute."""
    counts, state = SloCounts(1), None
    for minute in range(minutes):
        now, bad = START + minute * MINUTE, round(per_minute * share_of(minute))
        for call in range(per_minute):
            counts.add(now, [1] if call < bad else [])
        state = objective_state(ERRORS, 1, counts, now, state)
        yield state


def test_a_service_within_its_budget_burns_nothing():
    states = list(after(90, lambda minute: 0.001))
    assert {one.severity for one in states} == {""}
    assert states[-1].budget_left == pytest.approx(0.0, abs=1e-9)
    assert states[-1].burn_rates["1h"] == pytest.approx(1.0)


def test_an_outage_pages_within_minutes_and_ends_soon_after_it():
    states = list(after(90, lambda minute: 0.5 if 60 <= minute < 70 else 0.0))
    severities = [one.severity for one in states]
    first = severities.index("page")
    assert 60 <= first <= 62
    assert states[first].since == START + first * MINUTE
    assert severities[89] != "page" or states[89].burn_rates["30m"] > 6
    assert states[89].burn_rates["5m"] == 0.0


def test_a_slow_leak_is_a_ticket_and_no_page():
    states = list(after(60, lambda minute: 0.003))
    assert {one.severity for one in states[10:]} == {"ticket"}


def test_a_single_failure_among_few_calls_is_no_alarm():
    states = list(after(5, lambda minute: 0.1 if minute == 0 else 0.0, per_minute=(LEAST_BAD - 1) * 10))
    assert {one.severity for one in states} == {""}


def test_a_budget_that_is_overspent_is_below_zero():
    assert list(after(1, lambda minute: 0.01))[-1].budget_left == pytest.approx(-9.0)
