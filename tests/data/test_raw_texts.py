"""Raw texts: any file's texts, each once, and split by the texts themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadRow
from llmos.abi.recipe import Data
from llmos.data.raw_texts import read_texts, split_texts


def texts_in(folder: Path, name: str, content: str, **data: str) -> list[tuple[str, ...]]:
    pairs = bool(data.pop("pairs", ""))
    path = folder / name
    path.write_text(content)
    return list(read_texts(Data(str(path), **data), {}, pairs=pairs).texts)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "one text\n\nONE  text\nanother\n", ["one text", "another"]),
        ("a.csv", "text,label\none text,x\nanother,y\n", ["one text", "another"]),
        ("a.jsonl", '{"text": "one text"}\n{"text": ""}\n{"text": "another"}\n', ["one text", "another"]),
        ("a.conll", "EU B-ORG\nrejects O\n\nPeter B-PER\n", ["EU rejects", "Peter"]),
        (
            "chats.jsonl",
            json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}),
            ["hi\nhello"],
        ),
        (
            "squad.json",
            json.dumps({"data": [{"paragraphs": [{"context": "A passage.", "qas": [
                {"question": "What?", "answers": [], "is_impossible": True},
                {"question": "Who?", "answers": [], "is_impossible": True},
            ]}]}]}),
            ["A passage."],
        ),
    ],
)  # fmt: skip
def test_texts_are_read_whatever_they_are_labelled_with(
    tmp_path: Path, name: str, content: str, expected: list[str]
) -> None:
    assert texts_in(tmp_path, name, content) == [(one,) for one in expected]


def test_columns_are_joined_or_are_a_pair(tmp_path: Path) -> None:
    content = "question,answer\nhow is it,fine as ever\nwho is it,it is me\n"
    joined = texts_in(tmp_path, "a.csv", content, text="question,answer")
    assert joined == [("how is it fine as ever",), ("who is it it is me",)]
    pairs = texts_in(tmp_path, "a.csv", content, text="question,answer", pairs="yes")
    assert pairs == [("how is it", "fine as ever"), ("who is it", "it is me")]


@pytest.mark.parametrize(("name", "content"), [("a.txt", ""), ("a.txt", "\n\n"), ("a.csv", "text,label\n")])
def test_a_file_without_a_text_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises((BadInput, BadRow)):
        texts_in(tmp_path, name, content)


def test_too_few_texts_are_refused_with_their_number() -> None:
    with pytest.raises(BadInput) as raised:
        split_texts([(f"text {i}",) for i in range(63)], (), (), "few.txt")
    assert raised.value.detail["count"] == 63


@given(st.integers(64, 3000), st.booleans())
def test_no_text_is_in_two_splits_and_none_is_lost(count: int, has_test: bool) -> None:
    texts = [(f"text {i}",) for i in range(count + 32)]
    test = [*texts[:20], ("not among them",)] if has_test else []
    made = split_texts(texts, (), test, "texts.txt")
    parts = [set(made.train), set(made.validation), set(made.test)]
    assert set.union(*parts) == set(texts) | set(test)
    assert sum(map(len, parts)) == len(set(texts) | set(test))
    assert min(map(len, parts)) >= 16
