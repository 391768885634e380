"""Feedback beside the rows that a model was first trained on, for each family of tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_dataset_programs import KEY, Shop

from llmos.abi.feedback import FeedbackRow, is_held_out, texts_of
from llmos.abi.feedback_file import add_rows, open_feedback
from llmos.abi.json_type import Json
from llmos.abi.row_id import RowHmac, fold_text
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.feedback.told_rows import UNUSED
from llmos.data.row import PreferenceRow, Row, TextRow, UnpairedRow
from llmos.programs import import_data, learn_data
from llmos.tasks import task as task_of

MODEL = "m"


def told(task: str, given: Json, kind: str, value: Json, answer: Json = None) -> FeedbackRow:
    """A row as the API makes it."""
    checked = task_of(task).check(given)
    text_id = RowHmac(bytes.fromhex(KEY)).id_of(fold_text(texts_of(checked)))
    return FeedbackRow(
        0, 1.0, MODEL, task, checked, kind, value, text_id, "m:1", answer=answer, is_held_out=is_held_out(text_id)
    )


def learned(folder: Path, task: str, first: list[Json], rows: list[FeedbackRow], **options: Json) -> tuple[Shop, dict]:
    """The shop with the dataset of these first rows and this feedback, and the operation in its provenance."""
    path = folder / "first.jsonl"
    path.write_text("\n".join(map(json.dumps, first)))
    shop = Shop(folder)
    shop.run(import_data, name="first", task=task, data=str(path), options=options)
    file = folder / "feedback.db"
    with open_feedback(file) as database:
        last = add_rows(database, rows)[-1].id
    offer = shop.run(learn_data, data="first@1", name="m-feedback", model=MODEL, upto=last, feedback=str(file))
    return shop, offer.draft["provenance"]["operation"]


def rows_in(shop: Shop, split: str) -> list[Row]:
    reader = DatasetReader(Path(shop.folders["m-feedback@2"]), shop.manifests["m-feedback@2"])
    return [one.row for one in reader.rows(split)] if split in reader.splits else []


@pytest.mark.parametrize("is_text", [True, False], ids=["texts", "words"])
def test_spans_become_tagged_words_and_replace_those_of_a_sentence_that_is_there(tmp_path, is_text):
    def given(sentence: str) -> Json:
        return sentence if is_text else {"tokens": sentence.split()}

    first = [{"tokens": ["Ada", "visits", f"Oslo{at}"], "tags": ["B-PER", "O", "O"]} for at in range(10)]
    found = [{"start": 0, "end": 3, "label": "PER"}, {"start": 11, "end": 16, "label": "PER"}]
    rows = [told("tag", given(f"Ada visits Oslo{at}"), "label", found) for at in range(10)]
    rows += [told("tag", given(f"Ada visits Rome{at}"), "label", found[:1]) for at in range(40)]
    shop, operation = learned(tmp_path, "tag", first, rows)
    train, test = rows_in(shop, "train"), rows_in(shop, "test")
    held_out = sum(row.is_held_out for row in rows[10:])
    assert 0 < len(test) == operation["held_out"] == held_out
    changed = [row for row in train if row.texts[0].startswith("Ada visits Oslo") and row.tags[2] == "B-PER"]
    assert len(changed) == sum(not row.is_held_out for row in rows[:10])
    assert {row.tags for row in test} == {("B-PER", "O", "O")}
    assert len(train) == 10 + 40 - held_out


def test_right_texts_become_chats_and_ratings_are_left_out_of_such_rows(tmp_path):
    def asked(at: int) -> Json:
        return {"messages": [{"role": "user", "content": f"Question {at}"}]}

    first = [{"messages": [*asked(at)["messages"], {"role": "assistant", "content": "No"}]} for at in range(10)]
    rows = [told("chat", asked(at), "text", "Yes", "No") for at in range(5, 30)]
    rows += [told("chat", asked(40), "score", 1.0, "Perhaps")]
    shop, operation = learned(tmp_path, "chat", first, rows)
    answers = {row.texts[0]: row.answer for row in rows_in(shop, "train")}
    assert operation["left_out"][UNUSED] == 1
    assert "Question 40" not in answers
    for row in rows[:5]:  # a text of the first rows is never moved
        assert answers[texts_of(row.input)] == ("No" if row.is_held_out else "Yes")
    assert {row.answer for row in rows_in(shop, "test")} == {"Yes"}


def test_a_model_of_preferences_learns_the_right_text_over_the_answer(tmp_path):
    first = [{"prompt": f"Ask {at}", "chosen": "good", "rejected": "bad"} for at in range(10)]
    rows = [told("generate", f"Say {at}", "text", "right", "wrong") for at in range(30)]
    rows += [told("generate", "Same", "text", "right", "right"), told("generate", "Unknown", "text", "right")]
    shop, operation = learned(tmp_path, "generate", first, rows, preferences="paired")
    new = [row for row in rows_in(shop, "train") if row.prompt.startswith("Say")]
    assert operation["left_out"][UNUSED] == 2
    assert all(isinstance(row, PreferenceRow) for row in new)
    assert {(row.answer, row.rejected) for row in new} == {("right", "wrong")}
    assert len(new) == sum(not row.is_held_out for row in rows[:30])


def asked_of(held_out: bool) -> list[str]:
    """Prompts which are held out or not."""
    texts = [f"Tell {at}" for at in range(60)]
    return [one for one in texts if told("generate", one, "text", "x").is_held_out is held_out]


def ids_in(shop: Shop, split: str) -> list[str]:
    reader = DatasetReader(Path(shop.folders["m-feedback@2"]), shop.manifests["m-feedback@2"])
    return [one.id for one in reader.rows(split)]


def test_told_ratings_stand_beside_the_rated_answers_of_a_prompt(tmp_path):
    prompt = asked_of(False)[0]
    first = [{"prompt": prompt, "completion": f"answer {at}", "label": at % 2 == 0} for at in range(4)]
    rows = [told("generate", prompt, "score", value, said) for said, value in (("new", 1.0), ("newer", 0.0))]
    rows += [told("generate", prompt, "score", 0.0, "answer 9"), told("generate", prompt, "score", 1.0, "answer 9")]
    shop, operation = learned(tmp_path, "generate", first, rows, preferences="unpaired")
    there = rows_in(shop, "train")
    assert all(isinstance(row, UnpairedRow) for row in there)
    assert [(row.answer, row.is_good) for row in there] == [
        *((f"answer {at}", at % 2 == 0) for at in range(4)),
        *(("new", True), ("newer", False), ("answer 9", True)),
    ]
    assert (len(set(ids_in(shop, "train"))), operation["rows"]) == (7, 3)


def test_told_pairs_stand_beside_the_pairs_of_a_prompt(tmp_path):
    prompt = asked_of(False)[0]
    first = [{"prompt": prompt, "chosen": f"good {at}", "rejected": f"bad {at}"} for at in range(3)]
    shop, _ = learned(
        tmp_path, "generate", first, [told("generate", prompt, "text", "right", "wrong")], preferences="paired"
    )
    pairs = [(row.answer, row.rejected) for row in rows_in(shop, "train")]
    assert pairs == [*((f"good {at}", f"bad {at}") for at in range(3)), ("right", "wrong")]


def test_ratings_of_a_prompt_that_is_held_out_are_never_learned(tmp_path):
    prompt = asked_of(True)[0]
    first = [{"prompt": f"Other {at}", "completion": "a", "label": True} for at in range(3)]
    rows = [told("generate", prompt, "score", 1.0, f"answer {at}") for at in range(3)]
    shop, operation = learned(tmp_path, "generate", first, rows, preferences="unpaired")
    assert [row.answer for row in rows_in(shop, "test")] == [f"answer {at}" for at in range(3)]
    assert (len(rows_in(shop, "train")), operation["held_out"]) == (3, 3)


def test_a_right_text_takes_the_place_of_all_right_texts_of_a_prompt_once(tmp_path):
    prompt = asked_of(False)[0]
    first = [{"prompt": prompt, "completion": f"reference {at}"} for at in range(3)]
    first.append({"prompt": "Another", "completion": "kept"})
    shop, _ = learned(tmp_path, "generate", first, [told("generate", prompt, "text", "right", "wrong")])
    assert all(type(row) is TextRow for row in rows_in(shop, "train"))
    assert [row.answer for row in rows_in(shop, "train")] == ["right", "kept"]
