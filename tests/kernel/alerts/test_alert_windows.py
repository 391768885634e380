"""Windows over metrics and events: growth, shares, quantiles, counts of events, and how much is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.kernel.alerts.evaluation import evaluate, value_of
from llmos.kernel.alerts.parser import parse
from llmos.kernel.alerts.windows import MOST_EVENTS, POINTS, CounterWindow, MetricSample, Windows, names_model


class Box:
    """Metrics and a clock that a test moves."""

    def __init__(self):
        self.now, self.samples, self.reads = 0.0, {}, 0
        self.windows = Windows(self.read, lambda: self.now)

    def read(self):
        self.reads += 1
        return [MetricSample(name, dict(labels), value) for (name, labels), value in self.samples.items()]

    def count(self, outcome, number=1, model="support:2"):
        key = ("llmos_calls_total", (("model", model), ("outcome", outcome), ("task", "classify")))
        self.samples[key] = self.samples.get(key, 0) + number

    def watch(self, *texts):
        self.conditions = [parse(text) for text in texts]
        self.windows.watch(self.conditions)

    def after(self, seconds):
        self.now += seconds
        self.windows.read()
        return self

    def value(self, index=0):
        return evaluate(self.conditions[index], self.windows).value

    def is_true(self, index=0):
        return evaluate(self.conditions[index], self.windows).is_true


def test_the_share_of_failed_calls_is_of_the_window_and_of_our_own_faults():
    box = Box()
    box.watch('errors("support", 5m) > 0.01')
    assert box.value() is None
    box.count("ok", 90)
    box.count("internal", 6)
    box.count("bad_input", 4)
    box.count("cancelled", 50)
    box.count("internal", 100, model="other:1")
    assert box.after(10).value() == pytest.approx(0.06)
    assert box.is_true()
    box.after(295)
    box.count("ok", 10)
    assert box.after(5).value() == 0.0  # the failures are older than the window
    assert not box.after(301).is_true()
    assert box.value() is None


def test_a_rule_that_is_added_later_counts_from_then_on():
    box = Box()
    box.count("ok", 1000)
    box.watch('calls("support:2", 1h) > 5')
    assert box.value() == 0
    box.count("ok", 6)
    assert box.after(1).value() == 6
    box.watch('calls("support:2", 1h) > 5', 'calls("*", 1h) > 0')
    assert box.after(1).value() == 6
    assert box.value(1) == 0


def test_rate_and_increase_follow_labels_and_a_gauge_is_as_it_is_now():
    box = Box()
    box.watch(
        'increase(llmos_calls_total{outcome!="ok"}, 1m) > 0',
        "rate(llmos_calls_total, 100s) > 0",
        'llmos_free_bytes{device="cpu*"} < 1e9',
    )
    box.samples["llmos_free_bytes", (("device", "cpu0"),)] = 4e8
    box.samples["llmos_free_bytes", (("device", "cpu1"),)] = 5e8
    box.samples["llmos_free_bytes", (("device", "cuda0"),)] = 9e9
    box.count("ok", 30)
    box.count("busy", 20)
    box.after(10)
    assert (box.value(0), box.value(1), box.value(2)) == (20, 0.5, 9e8)
    assert box.is_true(2)


def test_a_latency_is_a_quantile_of_the_window_in_seconds():
    box = Box()
    box.watch('latency("support", 0.5, 5m) > 20ms')
    for bound, number in ((0.01, 10), (0.1, 30), ("+Inf", 40)):
        labels = (("le", str(bound)), ("model", "support:2"), ("task", "classify"))
        box.samples["llmos_call_seconds_bucket", labels] = number
    assert box.after(5).value() == pytest.approx(0.01 + 0.09 * 10 / 20)
    assert box.is_true()


def test_a_quantile_beyond_the_last_bound_is_that_bound():
    box = Box()
    box.watch("quantile(0.99, llmos_queue_seconds, 5m) > 1")
    for bound, number in ((0.01, 1), (120.0, 1), ("+Inf", 5)):
        box.samples["llmos_queue_seconds_bucket", (("le", str(bound)),)] = number
    assert box.after(5).value() == 120.0


def test_events_are_counted_by_their_fields_until_the_window_has_passed():
    box = Box()
    box.watch('events("rollout", 10m, rollout.stage="rolled_back") > 0', 'events("slo", 1m, is_over="true") > 0')
    box.windows.see("rollout", {"rollout": {"stage": "promoted"}})
    box.windows.see("slo", {"is_over": True})
    box.windows.see("drift", {})
    assert (box.value(0), box.value(1)) == (0, 1)
    box.windows.see("rollout", {"rollout": {"stage": "rolled_back", "name": "support"}})
    assert box.is_true()
    assert box.windows.counts("slo")
    assert not box.windows.counts("drift")
    assert box.windows.last_event(box.conditions[0].left)["rollout"]["name"] == "support"
    assert not box.after(601).is_true()


def test_nothing_is_read_where_no_rule_asks_for_a_metric():
    box = Box()
    box.watch('events("drift", 1h) > 0', "1 > 2")
    box.after(5)
    assert box.reads == 0


def test_what_is_kept_is_bounded():
    box = Box()
    box.watch('calls("*", 1h) > 0', 'events("drift", 1h) > 0')
    window = CounterWindow(60.0)
    for second in range(5_000):
        window.add(second * 0.1, {})
    assert len(window.points) <= POINTS + 2
    for number in range(MOST_EVENTS + 5):
        box.windows.see("drift", {"number": number})
    assert box.value(1) == MOST_EVENTS


@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 50)), min_size=1, max_size=60))
def test_growth_is_what_was_counted_since_the_newest_reading_as_old_as_the_window(steps):
    """At least what came within the window, and at most what came within it and one reading more."""
    window, at, total, came = CounterWindow(120.0), 0.0, 0.0, []
    window.add(0.0, {(): 0.0})
    for seconds, number in steps:
        at, total = at + seconds, total + number
        came.append((at, number))
        window.add(at, {(): total})
    grown = window.growth({(): total})[()]
    assert grown >= sum(number for then, number in came if then > at - 120.0)
    assert grown <= sum(number for then, number in came if then > at - 120.0 - 100.0 - 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 / 0 > 0", False),
        ("not 1 / 0 > 0", True),
        ("llmos_nothing < 5", False),
        ("llmos_nothing >= 0 or 2 > 1", True),
        ("-(2 - 3) * 4 == 4", True),
        ("1e300 * 1e300 > 0", False),
        ("2 != 2 and 1 < 2", False),
    ],
)
def test_a_number_without_a_value_makes_its_comparison_false(text, expected):
    assert evaluate(parse(text), Box().windows).is_true is expected


def test_the_value_of_a_rule_is_that_of_its_first_comparison():
    box = Box()
    box.watch('0.5 < calls("*", 1m) and 3 > 2', "2 > 1")
    assert (box.value(), box.value(1)) == (0, 1)
    assert value_of(parse("3 - 1 > 0").left, box.windows) == 2


@pytest.mark.parametrize(
    ("glob", "ref", "is_meant"),
    [
        ("support", "support:2", True),
        ("support:2", "support:2", True),
        ("support:1", "support:2", False),
        ("sup*", "support:2", True),
        ("*", "a:1", True),
        ("supp", "support:2", False),
    ],
)
def test_a_model_is_meant_by_its_name_its_ref_or_a_glob(glob, ref, is_meant):
    assert names_model(glob, ref) is is_meant
