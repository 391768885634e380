"""Expressions of alert rules: what is written is what is read, and what is wrong is named with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.kernel.alerts.expression import (
    OF_QUANTILES,
    OF_SERIES,
    Arithmetic,
    JoinedConditions,
    LabelMatcher,
    Measured,
    MeasureFunction,
    MetricSeries,
    Negated,
    Not,
    Number,
    NumberComparison,
    event_kinds,
    longest_window_s,
)
from llmos.kernel.alerts.parser import COMPARES, LONGEST_WINDOW_S, MOST_CHARS, MOST_DEPTH, MOST_TOKENS, WORDS, parse

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
NAMES = st.from_regex(r"[a-z_][a-z0-9_.]{0,8}", fullmatch=True).filter(lambda name: name not in WORDS)
MATCHERS = st.builds(LabelMatcher, NAMES, TEXTS, st.booleans())
SEVERAL = st.lists(MATCHERS, max_size=2).map(tuple)
SERIES = st.builds(MetricSeries, st.from_regex(r"llmos_[a-z0-9_]{1,12}", fullmatch=True), SEVERAL)
NUMBERS = st.floats(0, 1e300).map(Number)
WINDOWS = st.floats(1, LONGEST_WINDOW_S)
SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)


@st.composite
def measures(draw):
    measure = draw(st.sampled_from(MeasureFunction))
    series = draw(SERIES) if measure in OF_SERIES else None
    subject = "" if measure in OF_SERIES else draw(TEXTS)
    q = draw(SHARES) if measure in OF_QUANTILES else None
    return Measured(
        measure, draw(WINDOWS), subject, series, q, draw(SEVERAL) if measure is MeasureFunction.EVENTS else ()
    )


QUANTITIES = st.recursive(
    NUMBERS | SERIES | measures(),
    lambda inner: st.builds(Negated, inner) | st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner),
    max_leaves=5,
)
CONDITIONS = st.recursive(
    st.builds(NumberComparison, st.sampled_from(COMPARES), QUANTITIES, QUANTITIES),
    lambda inner: st.builds(Not, inner) | st.builds(JoinedConditions, st.sampled_from(("and", "or")), inner, inner),
    max_leaves=5,
)


@given(CONDITIONS)
def test_what_is_written_is_read_again(condition):
    assert parse(str(condition)) == condition


def read(text):
    """The condition, or the place of the mistake."""
    try:
        return parse(text), None
    except BadInput as error:
        return None, error.detail["at"]


@given(st.text(max_size=60) | st.text("llmos_calls(){}<>=!+-*/, \"'5m.0andornt", max_size=60))
def test_any_text_is_read_or_refused_with_a_place_in_it(text):
    condition, at = read(text)
    assert 1 <= at <= len(text) + 1 if condition is None else parse(str(condition)) == condition


@given(CONDITIONS, st.data())
def test_a_cut_expression_is_never_read_as_another_function(condition, data):
    text = str(condition)
    shorter, at = read(text[: data.draw(st.integers(0, len(text) - 1))])
    assert at <= len(text) if shorter is None else event_kinds(shorter) <= event_kinds(condition)


def test_the_examples_of_the_docs_say_what_they_mean():
    assert parse('errors("support", 5m) > 0.01') == NumberComparison(
        ">", Measured(MeasureFunction.ERRORS, 300.0, "support"), Number(0.01)
    )
    assert parse('latency("support", 0.99, 5m) > 200ms and calls("support", 5m) >= 100') == JoinedConditions(
        "and",
        NumberComparison(">", Measured(MeasureFunction.LATENCY, 300.0, "support", q=0.99), Number(0.2)),
        NumberComparison(">=", Measured(MeasureFunction.CALLS, 300.0, "support"), Number(100.0)),
    )
    assert parse("events('rollout', 1h, rollout.stage=\"rolled_back\") > 0") == NumberComparison(
        ">",
        Measured(MeasureFunction.EVENTS, 3600.0, "rollout", matchers=(LabelMatcher("rollout.stage", "rolled_back"),)),
        Number(0.0),
    )
    assert parse('llmos_free_bytes{device="cpu*"} / 2 < 1e9') == NumberComparison(
        "<",
        Arithmetic("/", MetricSeries("llmos_free_bytes", (LabelMatcher("device", "cpu*"),)), Number(2.0)),
        Number(1e9),
    )


def test_or_binds_weaker_than_and_and_products_stronger_than_sums():
    one, two, three = (NumberComparison("<", Number(0.0), Number(float(n))) for n in (1, 2, 3))
    assert parse("0 < 1 or 0 < 2 and 0 < 3") == JoinedConditions("or", one, JoinedConditions("and", two, three))
    assert parse("not 0 < 1 and 0 < 2") == JoinedConditions("and", Not(one), two)
    left = Arithmetic("-", Arithmetic("-", Number(1.0), Number(2.0)), Arithmetic("*", Number(3.0), Number(4.0)))
    assert parse("1 - 2 - 3 * 4 == 0") == NumberComparison("==", left, Number(0.0))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", 1),
        ("llmos_calls_total", 1 + len("llmos_calls_total")),
        ("errors('a', 5m) >", 18),
        ("errors('a', 5) > 1", 13),
        ("errors('a', 0.5s) > 1", 13),
        ("errors('a', 8d) > 1", 13),
        ("errors(a, 5m) > 1", 8),
        ("eval('a', 5m) > 1", 1),
        ("latency('a', 2, 5m) > 1", 14),
        ("calls_total > 1", 1),
        ("1 < 2 < 3", 7),
        ("1 and 2 < 3", 1),
        ("(1 < 2) + 1 > 2", 1),
        ("1 > __import__('os')", 5),
        ("llmos_x{a~'b'} > 1", 10),
        ("llmos_x{a='b' c='d'} > 1", 15),
        ("1 > 2; 3", 6),
        ("5 minutes > 1", 3),
    ],
)
def test_a_wrong_expression_names_its_place(text, at):
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert caught.value.detail["at"] == at


def test_length_and_depth_are_bounded():
    for text in (
        " " * MOST_CHARS + "1 < 2",
        "(" * (MOST_DEPTH + 2) + "1",
        "-" * (MOST_DEPTH + 2) + "1 < 2",
        "1-" * MOST_TOKENS + "1 < 2",
    ):
        with pytest.raises(BadInput):
            parse(text)
    assert parse("(" * MOST_DEPTH + "1 < 2" + ")" * MOST_DEPTH) == NumberComparison("<", Number(1.0), Number(2.0))


def test_windows_and_kinds_of_events_are_found_wherever_they_stand():
    condition = parse('not (events("drift", 10m) > 0 or -calls("a", 2h) < events("slo", 1s) / 2)')
    assert event_kinds(condition) == {"drift", "slo"}
    assert longest_window_s(condition) == 7200.0
    assert longest_window_s(parse("1 < 2")) == 0.0
