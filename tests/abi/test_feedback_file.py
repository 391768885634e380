"""The file of feedback: rows come back as they were, replace each other, and go to the last byte."""

from dataclasses import replace

from llmos.abi import feedback_file
from llmos.abi.feedback import FeedbackRow

SAID = (0, 1.5, "m", "classify", {"text": "é"}, "label", "a", "t1")
PLAIN = FeedbackRow(*SAID, "m:1", "req_1", 0, "b", "ann", "cat", "k1", "person", is_held_out=True)


def added(path, *rows):
    with feedback_file.open_feedback(path) as database:
        return feedback_file.add_rows(database, rows)


def rows_in(path, model="m", **wanted):
    with feedback_file.open_feedback(path) as database:
        return list(feedback_file.rows_of(database, model, **wanted))


def test_a_row_comes_back_as_it_was(tmp_path):
    (row,) = added(tmp_path / "f.db", PLAIN)
    assert row == replace(PLAIN, id=1)
    assert rows_in(tmp_path / "f.db") == [row]


def test_later_feedback_on_a_call_replaces_the_earlier_under_a_new_id(tmp_path):
    added(tmp_path / "f.db", PLAIN, replace(PLAIN, index=1), replace(PLAIN, kind="score"))
    (row,) = added(tmp_path / "f.db", replace(PLAIN, value="b"))
    assert row.id == 4
    assert [(one.index, one.kind, one.value) for one in rows_in(tmp_path / "f.db")] == [
        (1, "label", "a"),
        (0, "score", "a"),
        (0, "label", "b"),
    ]


def test_rows_without_a_call_stand_beside_each_other(tmp_path):
    added(tmp_path / "f.db", replace(PLAIN, call=""), replace(PLAIN, call=""))
    assert len(rows_in(tmp_path / "f.db")) == 2
    assert len(rows_in(tmp_path / "f.db", upto=1)) == 1


def test_rows_are_counted_after_an_id(tmp_path):
    agreeing = replace(PLAIN, call="", answer="a", is_held_out=False)
    added(tmp_path / "f.db", PLAIN, agreeing, replace(agreeing, answer=None), replace(agreeing, model="n"))
    with feedback_file.open_feedback(tmp_path / "f.db") as database:
        counts = feedback_file.counts_of(database, "m")
        later = feedback_file.counts_of(database, "m", after=2)
    assert (counts.rows, counts.held_out, counts.known, counts.agreed, counts.last_id) == (3, 1, 2, 1, 3)
    assert (later.rows, later.last_id) == (1, 3)


def test_a_user_is_erased_as_giver_and_as_caller_and_no_id_is_given_twice(tmp_path):
    path = tmp_path / "f.db"
    text = "words that nobody else has written"
    mine = replace(PLAIN, call="", input={"text": text})
    added(path, replace(mine, by="ann", user=""), replace(mine, by="", user="ann"), replace(PLAIN, by="b", user=""))
    with feedback_file.open_feedback(path) as database:
        assert feedback_file.erase_user(database, "") == 0
        assert feedback_file.erase_user(database, "ann") == 2
    assert all(text.encode() not in one.read_bytes() for one in tmp_path.iterdir())
    assert added(path, PLAIN)[0].id == 4


def test_the_newest_rows_are_chosen_by_model_and_user(tmp_path):
    added(tmp_path / "f.db", PLAIN, replace(PLAIN, call="", model="n", by="bob", user=""))
    with feedback_file.open_feedback(tmp_path / "f.db") as database:
        assert [one.model for one in feedback_file.newest(database, "", "", 9)] == ["n", "m"]
        assert [one.model for one in feedback_file.newest(database, "m", "", 9)] == ["m"]
        assert [one.model for one in feedback_file.newest(database, "", "cat", 9)] == ["m"]
