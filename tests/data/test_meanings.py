"""Fields that change what a row means: they are read as their format means them, or asked about, never passed over."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.error import BadInput, BadRow
from llmos.abi.recipe import Data
from llmos.data.families.labels import JOINED
from llmos.data.reader import read_rows
from llmos.data.row import Rows


def lines(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def table(folder: Path, *rows: list[str]) -> Path:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    (folder / "rows.csv").write_text(out.getvalue())
    return folder / "rows.csv"


def read(path: Path, task: str, options: dict[str, Any] | None = None, **how: Any) -> Rows[Any]:
    return read_rows(str(path), Data(str(path), **how), task, options or {})


INSTRUCTION = {"instruction": "Write it in capitals.", "input": "cat", "output": "CAT"}


def test_an_instruction_goes_with_its_input(tmp_path: Path) -> None:
    rows = read(lines(tmp_path, INSTRUCTION, {**INSTRUCTION, "input": ""}), "generate")
    assert [row.prompt for row in rows.rows] == ["Write it in capitals.\n\ncat", "Write it in capitals."]
    assert rows.left_out == ()
    assert rows.columns["input"] == "input"


def test_a_system_prompt_and_a_history_stand_before_the_question(tmp_path: Path) -> None:
    row = {**INSTRUCTION, "system": "Be brief.", "history": [["Hi", "Hello"]]}
    (found,) = read(lines(tmp_path, row), "chat").rows
    assert [(one["role"], one["content"]) for one in found.input["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Write it in capitals.\n\ncat"),
    ]
    with pytest.raises(BadInput) as refused:
        read(lines(tmp_path, row), "generate")
    assert refused.value.detail["column"] == "system"


def test_the_chosen_answer_of_a_pair_is_learned_and_the_rejected_one_named(tmp_path: Path) -> None:
    rows = read(lines(tmp_path, {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}), "generate")
    assert (rows.rows[0].answer, rows.left_out) == ("Hello", ("rejected",))


def test_turns_of_humans_and_models_are_messages(tmp_path: Path) -> None:
    turns = [{"from": "system", "value": "Brief."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    (found,) = read(lines(tmp_path, {"conversations": turns}), "chat").rows
    assert [one["role"] for one in found.input["messages"]] == ["system", "user"]
    assert found.answer == "Hello"
    with pytest.raises(BadRow) as refused:
        read(lines(tmp_path, {"conversations": [{"from": "martian", "value": "Hi"}]}), "chat")
    assert refused.value.detail["kind"] == "messages"


def test_an_answer_of_weight_0_is_left_out_and_counted(tmp_path: Path) -> None:
    def talk(weight: int) -> dict[str, Any]:
        said = {"role": "assistant", "content": "Hello", "weight": weight}
        return {"messages": [{"role": "user", "content": "Hi"}, said]}

    rows = read(lines(tmp_path, talk(1), talk(0)), "chat")
    assert (len(rows.rows), rows.skip_counts) == (1, {"of weight 0": 1})


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("classify", {"text": "Hi", "label": "greeting"}),
        ("tag", {"text": "Ada left", "spans": [{"start": 0, "end": 3, "label": "PER"}]}),
    ],
)
def test_rows_that_an_annotator_rejected_are_left_out_and_counted(
    tmp_path: Path, task: str, row: dict[str, Any]
) -> None:
    path = lines(tmp_path, *({**row, "answer": said} for said in ("accept", "reject", "ignore", "accept")))
    rows = read(path, task)
    assert (len(rows.rows), rows.skip_counts, rows.left_out) == (2, {"rejected": 1, "ignored": 1}, ())


def test_an_answer_that_is_no_review_leaves_nothing_out(tmp_path: Path) -> None:
    rows = read(
        lines(tmp_path, {"text": "Hi", "label": "a", "answer": "Ada"}, {"text": "Ho", "label": "b"}), "classify"
    )
    assert (len(rows.rows), rows.left_out) == (2, ("answer",))


@pytest.mark.parametrize("column", ["status", "answer"])
def test_a_column_of_reviews_that_is_read_or_of_something_else_leaves_nothing_out(tmp_path: Path, column: str) -> None:
    values = ["pending", "completed"] if column == "status" else ["accept", "reject"]
    rows = [{"text": f"t {i}", column: values[i % 2]} for i in range(4)]
    assert len(read(lines(tmp_path, *rows), "classify", label=column).rows) == 4
    tickets = [{"text": f"t {i}", "label": "ab"[i % 2], "status": ["pending", "completed"][i % 2]} for i in range(4)]
    assert read(lines(tmp_path, *tickets), "classify").left_out == ("status",)


QUESTIONS = [f"What is the name of number {i}?" for i in range(6)]
SENTENCES = [f"Number {i} has a name of its own." for i in range(6)]


def test_a_second_column_of_texts_is_asked_about(tmp_path: Path) -> None:
    rows = zip(QUESTIONS, SENTENCES, strict=True)
    path = lines(tmp_path, *({"question": q, "sentence": s, "label": i % 2} for i, (q, s) in enumerate(rows)))
    with pytest.raises(BadRow) as refused:
        read(path, "classify")
    assert refused.value.detail["value"] == ["question", "sentence"]
    both = read(path, "classify", text="question,sentence")
    assert both.rows[0].input["text"] == f"{QUESTIONS[0]} {SENTENCES[0]}"
    one = read(path, "classify", text="question")
    assert one.left_out == ("sentence",)


@pytest.mark.parametrize(
    "other",
    [
        [f"2026-01-{i + 1:02}" for i in range(6)],
        ["a web form of ours"] * 6,
        [f"https://example.org/a b/{i}" for i in range(6)],
        ["", "", "", "", "", "a remark of one annotator"],
    ],
    ids=["dates", "source", "links", "remarks"],
)
def test_a_column_of_dates_sources_links_or_few_remarks_is_no_second_text(tmp_path: Path, other: list[str]) -> None:
    rows = zip(SENTENCES, other, strict=True)
    path = lines(tmp_path, *({"text": s, "more": o, "label": i % 2} for i, (s, o) in enumerate(rows)))
    assert read(path, "classify").left_out == ("more",)


MANY = {"multi_label": True}


@pytest.mark.parametrize(
    "cells",
    [
        ["billing|urgent", "repair", "urgent"],
        ["billing,urgent", "repair", "billing", "urgent"],
        ["billing;urgent", "repair", "billing", "urgent"],
        ["billing#urgent", "repair", "billing", "urgent"],
        ['["billing", "urgent"]', '["repair"]'],
        ["['billing', 'urgent']", "['repair']"],
        ['{"choices": ["billing", "urgent"]}', "repair"],
    ],
    ids=["bar", "comma", "semicolon", "hash", "json", "python", "choices"],
)
def test_several_labels_of_a_cell_are_apart_however_they_are_written(tmp_path: Path, cells: list[str]) -> None:
    path = table(tmp_path, ["text", "labels"], *([f"sentence {i}", cell] for i, cell in enumerate(cells)))
    rows = read(path, "classify", MANY)
    assert [row.labels for row in rows.rows[:2]] == [("billing", "urgent"), ("repair",)]


def test_a_comma_inside_of_a_label_parts_nothing(tmp_path: Path) -> None:
    cells = ["Korea, South", "Korea, North", "Peru", "Korea, South"]
    path = table(tmp_path, ["text", "labels"], *([f"sentence {i}", cell] for i, cell in enumerate(cells)))
    assert [row.labels for row in read(path, "classify", MANY).rows] == [(cell,) for cell in cells]
    cut = read(path, "classify", {**MANY, "label_separator": ","})
    assert cut.rows[0].labels == ("Korea", "South")


def test_labels_that_are_one_are_joined_and_those_that_may_be_are_noted(tmp_path: Path) -> None:
    rows = read(table(tmp_path, ["text", "label"], ["a b", "1"], ["c d", "1.0"], ["e f", "2"]), "classify")
    assert [row.labels[0] for row in rows.rows] == ["1", "1", "2"]
    assert rows.counts == {JOINED: 1}
    alone = read(table(tmp_path, ["text", "label"], ["a b", "1.0"], ["c d", "2.5"]), "classify")
    assert [row.labels[0] for row in alone.rows] == ["1.0", "2.5"]
    twins = read(
        table(tmp_path, ["text", "label"], ["a b", "caf\u00e9"], ["c d", "cafe\u0301"], ["e f", "Caf\u00e9"]),
        "classify",
    )
    assert [row.labels[0] for row in twins.rows] == ["caf\u00e9", "caf\u00e9", "Caf\u00e9"]
    assert any("case alone" in note for note in twins.notes)


def studio(*results: Any, cancelled: bool = False) -> dict[str, Any]:
    return {"id": 1, "data": {"text": "Ada left"}, "annotations": [{"result": results, "was_cancelled": cancelled}]}


def test_tasks_of_label_studio_are_rows_of_their_first_annotation(tmp_path: Path) -> None:
    span = {"value": {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}}
    rows = [studio(span), studio(), studio(span, cancelled=True)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    tagged = read(tmp_path / "rows.json", "tag")
    assert [row.spans for row in tagged.rows] == [((0, 3, "PER"),), ()]
    assert tagged.skip_counts == {"cancelled": 1}
    choice = {"value": {"choices": ["news"]}}
    (tmp_path / "rows.json").write_text(json.dumps([studio(choice), studio(choice)]))
    assert [row.labels for row in read(tmp_path / "rows.json", "classify").rows] == [("news",), ("news",)]


def test_examples_of_spacy_are_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([["Ada left", {"entities": [[0, 3, "PER"]]}]]))
    assert read(tmp_path / "rows.json", "tag").rows[0].spans == ((0, 3, "PER"),)
    (tmp_path / "rows.json").write_text(json.dumps([["Ada left", {"cats": {"news": 1.0, "sport": 0.0}}]]))
    assert read(tmp_path / "rows.json", "classify").rows[0].labels == ("news",)


def test_accepted_options_are_labels(tmp_path: Path) -> None:
    row = {"text": "Ada left", "options": [{"id": "a"}, {"id": "b"}], "accept": ["a"], "answer": "accept"}
    rows = read(lines(tmp_path, row, {**row, "answer": "ignore"}), "classify")
    assert ([r.labels for r in rows.rows], rows.skip_counts) == ([("a",)], {"ignored": 1})
    with pytest.raises(BadRow) as refused:
        read(lines(tmp_path, {**row, "accept": ["a", "b"]}), "classify")
    assert refused.value.detail["kind"] == "label_count"
    assert read(lines(tmp_path, {**row, "accept": ["a", "b"]}), "classify", MANY).rows[0].labels == ("a", "b")


def test_a_system_prompt_beside_a_conversation_leads_it(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    (found,) = read(lines(tmp_path, {"conversations": turns, "system": "Brief."}), "chat").rows
    assert [one["role"] for one in found.input["messages"]] == ["system", "user"]


def test_a_known_half_of_a_pair_is_a_text_though_it_comes_again(tmp_path: Path) -> None:
    path = lines(
        tmp_path, *({"question": QUESTIONS[0], "sentence": s, "label": i % 2} for i, s in enumerate(SENTENCES))
    )
    with pytest.raises(BadRow) as refused:
        read(path, "classify")
    assert refused.value.detail["value"] == ["question", "sentence"]
