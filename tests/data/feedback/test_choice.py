"""Which rows of feedback are learned, held out and left out."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.feedback import FeedbackRow
from llmos.data.feedback.choice import ECHO, KNOWN, RARE, choose_rows

PLAIN = FeedbackRow(1, 0.0, "m", "classify", {"text": "t"}, "label", "a", "t1")
LABELS = ("a", "b")


def row(number, value="a", text="", **fields):
    return replace(PLAIN, id=number, value=value, text_id=text or f"t{number}", **fields)


def choose(rows, splits=None, labels=LABELS, accuracy=0.8):
    return choose_rows(rows, labels, splits or {}, accuracy)


def test_rows_are_learned_or_held_out():
    chosen = choose([row(1), row(2, is_held_out=True)])
    assert (set(chosen.train), set(chosen.held_out), dict(chosen.left_out)) == ({"t1"}, {"t2"}, {})


def test_a_text_is_never_both_learned_and_measured_on():
    splits = {"t1": "test", "t2": "validation", "t3": "train", "t4": "train"}
    chosen = choose([row(1), row(2), row(3, "b"), row(4, is_held_out=True)], splits)
    assert (set(chosen.train), set(chosen.held_out), chosen.left_out[KNOWN]) == ({"t3"}, set(), 3)


def test_the_last_word_of_a_sender_counts_and_most_senders_decide():
    said = [row(1, "a", "t", by="x"), row(2, "b", "t", by="y"), row(3, "a", "t", by="z"), row(4, "b", "t", by="z")]
    assert choose(said).train["t"].value == "b"
    assert choose(said[:3]).train["t"].value == "a"
    assert choose([row(1, "a", "t"), row(2, "b", "t")]).train["t"].value == "b"


def test_of_a_sender_who_returns_answers_only_corrections_are_learned():
    echo = [row(number, "a", answer="a", by="loop") for number in range(100)]
    chosen = choose([*echo, row(200, "b", answer="a", by="loop")])
    assert set(chosen.train) == {"t200"}
    assert chosen.left_out[ECHO] == 100


def test_a_person_who_agrees_as_often_as_the_model_is_right_is_learned_from():
    said = [row(number, "a", answer="b" if number % 5 == 0 else "a", by="ann") for number in range(200)]
    assert len(choose(said).train) == 200


def test_an_echo_behind_many_users_of_one_key_is_found_by_the_key():
    echo = [row(number, "a", answer="a", by=f"user {number}", key="k1") for number in range(100)]
    other = [row(500 + number, "a", answer="a", by="ann", key="k2") for number in range(10)]
    assert len(choose([*echo, *other]).train) == 10


def test_rows_whose_answer_is_not_known_are_no_evidence():
    assert len(choose([row(number) for number in range(500)]).train) == 500


def test_a_new_label_waits_until_enough_texts_have_it():
    few = choose([row(number, "new") for number in range(4)])
    assert (len(few.train), few.left_out[RARE]) == (0, 4)
    held = [row(10, "new", is_held_out=True)]
    enough = choose([row(number, "new") for number in range(5)] + held)
    assert (len(enough.train), len(enough.held_out)) == (5, 1)


rows = st.lists(
    st.builds(
        row,
        st.integers(1, 10_000),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([f"x{n}" for n in range(12)]),
        answer=st.sampled_from([None, "a", "b"]),
        by=st.sampled_from(["", "ann", "bob"]),
        is_held_out=st.just(False),
    ),
    max_size=60,
)
places = st.dictionaries(st.sampled_from([f"x{n}" for n in range(12)]), st.sampled_from(["train", "test"]))


@given(rows, places)
def test_what_is_learned_and_measured_never_meet(given_rows, splits):
    marked = [replace(one, is_held_out=one.text_id in ("x1", "x2", "x3")) for one in given_rows]
    chosen = choose(marked, splits)
    assert not set(chosen.train) & set(chosen.held_out)
    assert not any(splits.get(text) == "test" for text in (*chosen.train, *chosen.held_out))
    assert not any(splits.get(text) == "train" for text in chosen.held_out)
    assert not any(one.is_held_out for one in chosen.train.values())
