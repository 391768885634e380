"""Rows that a teacher is to answer: prompts and conversations without what is said to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.dataset import gather
from llmos.data.unlabelled import unlabelled_rows

ASKED = {"role": "user", "content": "Where is it?"}
SAID = {"role": "assistant", "content": "On its way."}


def read(folder: Path, name: str, content: str, task: str) -> list[Any]:
    path, labelled = folder / name, folder / "labelled.jsonl"
    path.write_text(content)
    row: Json = {"messages": [ASKED | {"content": "Known?"}, SAID]} if task == "chat" else {}
    row |= dict.fromkeys(("prompt", "text", "source"), "Known?") | dict.fromkeys(
        ("completion", "summary", "target"), "Yes"
    )
    labelled.write_text("\n".join(json.dumps(row) for _ in range(3)))
    data = Data(str(labelled), str(labelled), str(labelled), unlabelled=str(path))
    return unlabelled_rows(data, task, {}, {}, gather(data, task, {}, {}).splits)


@pytest.mark.parametrize("task", ["generate", "chat", "summarize", "translate"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "Where is it?\nKnown?\nWhere is it?\n"),
        ("a.csv", "source\nWhere is it?\n"),
        ("a.jsonl", '{"input": "Where is it?", "output": "not read"}'),
    ],
)
def test_texts_are_prompts_each_once_and_none_that_has_an_answer(
    tmp_path: Path, name: str, content: str, task: str
) -> None:
    (row,) = read(tmp_path, name, content, task)
    assert row.prompt == "Where is it?"
    assert row.answer == ""


def test_a_conversation_ends_with_what_is_asked(tmp_path: Path) -> None:
    lines = [
        {"messages": [ASKED, SAID, ASKED]},
        {"messages": [ASKED, SAID]},
        {"system": "Be kind", "messages": [ASKED]},
    ]
    rows = read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)), "chat")
    assert [len(row.input["messages"]) for row in rows] == [3, 1, 2]
    assert all(row.input["messages"][-1]["content"] == "Where is it?" for row in rows)
    with pytest.raises(BadRow):
        read(tmp_path, "b.jsonl", json.dumps({"messages": []}), "chat")
