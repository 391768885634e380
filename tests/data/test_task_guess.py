"""The task of a file is guessed only where its content decides it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.task_guess import guess_task

TALK = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
PLAIN: dict[str, Json] = {
    "classify": {"text": "a b", "label": "x"},
    "tag": {"text": "Ada lives", "spans": [[0, 3, "PER"]]},
    "answer": {"question": "q", "context": "a b", "answers": {"text": ["a"], "answer_start": [0]}},
    "similarity": {"sentence1": "a b", "sentence2": "c d", "score": 0.5},
    "chat": {"messages": TALK},
    "summarize": {"document": "a b c", "summary": "a"},
    "translate": {"translation": {"en": "a", "de": "b"}},
}


def guess(folder: Path, *rows: Json) -> str:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return guess_task(str(path), Data(str(path)))


@pytest.mark.parametrize("task", PLAIN)
def test_content_that_is_of_one_task_decides_it(tmp_path: Path, task: str):
    other = {**PLAIN[task], **({"label": "y"} if "label" in PLAIN[task] else {})}
    assert guess(tmp_path, *[PLAIN[task]] * 2, *[other] * 2) == task


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "completion": "b"}, ["generate", "chat"]),
        ({"query": "a b", "passage": "c d", "label": 1}, ["rerank"]),
    ],
)
def test_content_that_may_be_of_several_tasks_is_asked_about(tmp_path: Path, row: Json, expected: list[str]):
    others = [{**row, "label": 0}] if "label" in row else [row]
    with pytest.raises(BadInput) as raised:
        guess(tmp_path, row, row, *others, *others)
    assert set(expected) <= set(raised.value.detail["expected"])


def test_names_that_say_nothing_are_asked_about(tmp_path: Path):
    with pytest.raises(BadInput) as raised:
        guess(tmp_path, {"foo": "a b", "bar": "c"})
    assert raised.value.detail["key"] == "task"
