"""Second opinions: who is asked again about which rows."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.labelling import RowAnswer
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.labelling.answers import RowAnswers
from llmos.data.labelling.second_opinion import second_opinions, waits_for
from llmos.data.row import LabelRow

PEOPLE = st.sampled_from(["ada", "bob", "eve"])
SAID = st.dictionaries(PEOPLE, st.sampled_from(["a", "b", None]))


def answered(said: dict[str, str | None], at: int = 0) -> StoredRow[Any]:
    stored = StoredRow(f"{at:016x}", LabelRow({"text": f"text {at}"}, (), "f", at))
    answers = RowAnswers()
    answers.add(RowAnswer(stored.id, value, by, "a comment") for by, value in said.items())
    return answers.apply(stored) or answers.with_comments(stored)


@given(SAID, PEOPLE)
def test_a_row_waits_for_whoever_has_not_answered_what_others_have(said, by):
    others = {one for one, value in said.items() if value is not None and one != by}
    assert waits_for(answered(said), by) == (bool(others) and by not in said)


@given(st.lists(SAID, max_size=12), PEOPLE, st.integers(0, 15), st.integers(0, 3))
def test_so_many_of_them_are_asked_each_once_and_the_same_by_a_seed(all_said, by, count, seed):
    rows = [answered(said, at) for at, said in enumerate(all_said)]
    waiting = {one.id for one in rows if waits_for(one, by)}
    without = sorted(waiting)[:1]
    chosen, left = second_opinions(rows, by, without, count, seed)
    assert left == len(waiting) - len(without)
    assert len(chosen) == len({one.id for one in chosen}) == min(count, left)
    assert {one.id for one in chosen} <= waiting - set(without)
    assert second_opinions(rows, by, without, count, seed)[0] == chosen


def test_labels_that_came_with_the_rows_are_nobodys_answers():
    assert not waits_for(StoredRow("0", LabelRow({"text": "one"}, ("a",), "f", 1)), "ada")
