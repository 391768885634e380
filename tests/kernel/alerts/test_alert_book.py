"""The alert book: events change it, and it survives the journal's encoding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.alert import Alert, AlertDelivery, AlertSeverity, AlertSilence, AlertState, AlertStatus
from llmos.abi.error import NotFound
from llmos.abi.wire import from_json, to_json
from llmos.kernel.alerts.alert_book import (
    KEEP_ENDED,
    AlertAcknowledged,
    AlertBook,
    AlertChanged,
    AlertDeliveryEnded,
    AlertDeliveryTried,
    AlertSilenced,
    AlertSilenceEnded,
)

RULES = ("a", "b")


def alert(rule, state=AlertState.FIRING):
    return Alert(f"alert_{rule}", rule, AlertSeverity.INFO, "", "1 > 0", 1.0, state, data={"x": [1, {"y": None}]})


def delivery(number, rule="a"):
    return AlertDelivery(f"msg_{number}", "team", rule, alert(rule), AlertStatus.FIRING, 1.0, action={"rollback": "m"})


NAMES = st.sampled_from(RULES)
NUMBERS = st.integers(0, 3)
EVENTS = st.one_of(
    st.builds(
        lambda rule, state, numbers: AlertChanged(2.0, alert(rule, state), tuple(delivery(n, rule) for n in numbers)),
        NAMES,
        st.sampled_from((AlertState.FIRING, AlertState.RESOLVED)),
        st.lists(NUMBERS, max_size=2),
    ),
    st.builds(lambda rule: AlertAcknowledged(3.0, rule), NAMES),
    st.builds(lambda number: AlertDeliveryTried(3.0, f"msg_{number}", 9.0, "busy"), NUMBERS),
    st.builds(lambda number: AlertDeliveryEnded(3.0, f"msg_{number}"), NUMBERS),
    st.builds(lambda rule, at: AlertSilenced(at, AlertSilence(rule, at, at + 5)), NAMES, st.floats(0, 100)),
    st.builds(lambda rule: AlertSilenceEnded(3.0, rule), NAMES),
)


@given(st.lists(EVENTS, max_size=30))
def test_a_book_is_the_same_after_the_journals_encoding_at_any_point(events):
    book = AlertBook()
    for event in events:
        book = from_json(to_json(book), AlertBook).after(from_json(to_json(event), type(event)))
    plain = AlertBook()
    for event in events:
        plain = plain.after(event)
    assert book == plain
    assert all(one.state is AlertState.FIRING for one in book.firing.values())
    assert all(one.state is AlertState.RESOLVED for one in book.ended)


def test_a_message_is_there_until_it_has_ended_and_counts_its_attempts():
    book = AlertBook().after(AlertChanged(1.0, alert("a"), (delivery(1), delivery(2))))
    book = book.after(AlertDeliveryTried(2.0, "msg_1", 7.0, "busy")).after(AlertDeliveryEnded(3.0, "msg_2"))
    assert {key: (one.attempts, one.next_at, one.error) for key, one in book.deliveries.items()} == {
        "msg_1": (1, 7.0, "busy")
    }
    assert book.after(AlertDeliveryTried(4.0, "msg_9", 9.0, "late")) == book


def test_only_what_fires_is_acknowledged_and_only_what_is_silenced_ends():
    book = AlertBook()
    for event in (AlertAcknowledged(1.0, "a"), AlertSilenceEnded(1.0, "a")):
        with pytest.raises(NotFound):
            book.check(event)
    book = book.after(AlertChanged(1.0, alert("a"))).after(AlertSilenced(1.0, AlertSilence("a", 1.0, 10.0)))
    book.check(AlertAcknowledged(2.0, "a"))
    book.check(AlertSilenceEnded(2.0, "a"))
    with pytest.raises(NotFound):
        book.check(AlertSilenceEnded(11.0, "a"))
    assert book.after(AlertAcknowledged(2.0, "a")).firing["a"].acknowledged_at == 2.0


def test_a_silence_ends_by_itself_and_is_forgotten_by_the_next():
    book = AlertBook().after(AlertSilenced(1.0, AlertSilence("a", 1.0, 10.0)))
    assert (book.silenced_until("a", 9.0), book.silenced_until("a", 10.0)) == (10.0, None)
    assert book.after(AlertSilenced(11.0, AlertSilence("b", 11.0, 20.0))).silences.keys() == {"b"}


def test_ended_alerts_are_kept_to_a_number_the_newest_first():
    book = AlertBook()
    for number in range(KEEP_ENDED + 3):
        book = book.after(AlertChanged(1.0, alert(str(number), AlertState.RESOLVED)))
    assert len(book.ended) == KEEP_ENDED
    assert book.ended[0].rule == str(KEEP_ENDED + 2)
