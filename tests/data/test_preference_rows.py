"""Preference rows: every common form is read alike, kept in datasets, and exported as it came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadRow
from llmos.abi.objective import DETECT, PAIRED, PLAIN, UNPAIRED
from llmos.abi.recipe import Data
from llmos.data.dataset import gather, keep
from llmos.data.datasets.dataset_reader import open_dataset
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset
from llmos.data.exports.registry import EXPORTS, exports_of
from llmos.data.families.preferences import form_of
from llmos.data.reader import read_rows
from llmos.data.row import PreferenceRow, Rows, TextRow, UnpairedRow
from llmos.testing.errors import fails_with

PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}
SINGLE = {"prompt": "Hi", "completion": "Hello", "label": True}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def lines(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def read(path: Path, task: str, form: str = DETECT, **how: Any) -> Rows[Any]:
    return read_rows(str(path), Data(str(path), **how), task, {"preferences": form})


TALKS = {
    "texts": PAIR,
    "messages": {"prompt": [user("Hi")], "chosen": [says("Hello")], "rejected": [says("Go")]},
    "whole conversations": {"chosen": [user("Hi"), says("Hello")], "rejected": [user("Hi"), says("Go")]},
    "a prompt that is repeated": {
        "prompt": "Hi",
        "chosen": [user("Hi"), says("Hello")],
        "rejected": [user("Hi"), says("Go")],
    },
    "openai": {
        "input": {"messages": [user("Hi")]},
        "preferred_output": [says("Hello")],
        "non_preferred_output": [says("Go")],
    },
    "json in cells": {
        key: json.dumps(value)
        for key, value in {"prompt": [user("Hi")], "chosen": [says("Hello")], "rejected": [says("Go")]}.items()
    },
}


@pytest.mark.parametrize("form", TALKS)
def test_every_form_of_a_pair_is_the_same_row(tmp_path: Path, form: str) -> None:
    (row,) = read(lines(tmp_path, TALKS[form]), "chat").rows
    assert isinstance(row, PreferenceRow)
    assert (row.input["messages"], row.answer, row.rejected) == ([user("Hi")], "Hello", "Go")


def test_a_pair_is_read_whole_or_as_its_better_answer_alone(
    tmp_path: Path,
) -> None:
    path = lines(tmp_path, PAIR)
    (pair,), (plain,) = read(path, "generate").rows, read(path, "generate", PLAIN).rows
    assert (pair.prompt, pair.answer, pair.rejected) == ("Hi", "Hello", "Go")
    assert (form_of(pair), form_of(plain), plain.answer) == (PAIRED, PLAIN, "Hello")
    assert pair.identity != plain.identity


def test_a_dialogue_that_is_one_text_is_cut_before_its_last_answer(tmp_path: Path) -> None:
    row = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: Go"}
    (found,) = read(lines(tmp_path, row), "generate").rows
    assert (found.prompt, found.answer, found.rejected) == ("\n\nHuman: Hi\n\nAssistant:", " Hello", " Go")


def test_a_system_prompt_and_tools_go_with_the_prompt(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "call", "parameters": {"type": "object", "properties": {}}}}
    (row,) = read(lines(tmp_path, {**PAIR, "system": "Brief.", "tools": [tool]}), "chat").rows
    assert row.input["messages"] == [{"role": "system", "content": "Brief."}, user("Hi")]
    assert row.input["tools"][0]["function"]["name"] == "call"


@pytest.mark.parametrize(
    ("label", "is_good"), [(True, True), (False, False), ("true", True), (0, False), ("bad", False)]
)
def test_single_answers_are_good_or_bad(tmp_path: Path, label: object, is_good: bool) -> None:
    (row,) = read(lines(tmp_path, {**SINGLE, "label": label}), "chat").rows
    assert isinstance(row, UnpairedRow)
    assert (row.answer, row.is_good) == ("Hello", is_good)


def test_a_label_that_is_no_truth_leaves_a_prompt_with_an_answer(tmp_path: Path) -> None:
    (row,) = read(lines(tmp_path, {**SINGLE, "label": "greeting"}), "generate").rows
    assert type(row) is TextRow


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({**PAIR, "rejected": "Hello"}, "no_preference"),
        ({"chosen": [user("Hi"), says("a")], "rejected": [user("Ho"), says("b")]}, "prompts"),
        ({"chosen": [user("Hi")], "rejected": [user("Hi")]}, "last_role"),
        ({"chosen": "Hello", "rejected": "Go"}, "no_prompt"),
        ({**PAIR, "chosen": ""}, "no_text"),
    ],
)
def test_a_row_without_a_preference_is_refused_with_its_line(tmp_path: Path, row: object, kind: str) -> None:
    with fails_with(BadRow, kind=kind, line=1):
        read(lines(tmp_path, row), "chat", PAIRED)


def test_a_wrong_label_is_refused_where_labels_are_asked_for(tmp_path: Path) -> None:
    with fails_with(BadRow, kind="label", line=1):
        read(lines(tmp_path, {**SINGLE, "label": "maybe"}), "chat", UNPAIRED)


def test_a_table_without_the_columns_says_which_it_lacks(tmp_path: Path) -> None:
    with fails_with(BadInput, expected=["rejected"]):
        read(lines(tmp_path, {"prompt": "Hi", "chosen": "Hello"}), "chat", PAIRED)


def test_conversations_are_for_chat(tmp_path: Path) -> None:
    with fails_with(BadInput, task="generate"):
        read(lines(tmp_path, TALKS["messages"]), "generate")


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).map(lambda text: f"so {text}.")


def rows_of(task: str, form: str) -> st.SearchStrategy[list[Any]]:
    def asked(text: str) -> dict[str, Any]:
        return {"messages": [user(text)]} if task == "chat" else {"prompt": text}

    one: st.SearchStrategy[Any]
    if form == PAIRED:
        one = st.builds(lambda p, a, b: PreferenceRow(asked(p), a, "f", 1, "", f"{b} not"), TEXT, TEXT, TEXT)
    else:
        one = st.builds(lambda p, a, good: UnpairedRow(asked(p), a, "f", 1, "", good), TEXT, TEXT, st.booleans())
    return st.lists(one, min_size=1, max_size=4)


KINDS = [(task, form) for task in ("generate", "chat") for form in (PAIRED, UNPAIRED)]
WRITTEN = [(task, form, name) for task, form in KINDS for name in exports_of(task, form)]


def contents(rows: Sequence[Any]) -> list[str]:
    return [row.identity for row in rows]


@pytest.mark.parametrize(("task", "form", "name"), WRITTEN)
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_exported_is_read_back_as_the_same_preferences(
    tmp_path: Path, task: str, form: str, name: str, data: st.DataObject
) -> None:
    rows = data.draw(rows_of(task, form))
    path = tmp_path / f"out.{EXPORTS[name].ending}"
    path.unlink(missing_ok=True)
    stored = [StoredRow(f"{i:016x}", row) for i, row in enumerate(rows)]
    EXPORTS[name].write(path, stored, ExportedDataset(task, {"preferences": form}))
    if name == "openai-preference" and task == "generate":
        return  # it has conversations alone, which chat reads
    assert contents(read(path, task, form).rows) == contents(rows)


def test_formats_that_have_one_answer_do_not_carry_preferences() -> None:
    assert {"openai", "sharegpt", "alpaca"} & set(exports_of("chat", PAIRED)) == set()
    assert "openai-preference" not in exports_of("chat", UNPAIRED)
    assert "preference" not in exports_of("chat")


@pytest.mark.parametrize(("task", "row", "form"), [("generate", PAIR, PAIRED), ("chat", SINGLE, UNPAIRED)])
def test_a_dataset_keeps_preferences_and_says_so(tmp_path: Path, task: str, row: dict[str, Any], form: str) -> None:
    path = lines(tmp_path, *({**row, "prompt": f"Hi {i}"} for i in range(20)))
    found = gather(Data(str(path)), task, {"preferences": DETECT}, {})
    assert found.options == {"preferences": form}
    written = keep(found, task, tmp_path / "kept", found.options)
    assert list(written.columns)[:2] == ["prompt", "chosen" if form == PAIRED else "completion"]
    reader = open_dataset(tmp_path / "kept", task, {})
    assert reader.options["preferences"] == form
    assert contents([one.row for one in reader.rows("train")]) == contents(found.splits.train)


def test_a_dataset_of_pairs_is_read_without_its_worse_answers_where_none_are_wanted(tmp_path: Path) -> None:
    found = gather(
        Data(str(lines(tmp_path, *({**PAIR, "prompt": f"Hi {i}"} for i in range(20))))),
        "chat",
        {"preferences": DETECT},
        {},
    )
    keep(found, "chat", tmp_path / "kept", found.options)
    plain = open_dataset(tmp_path / "kept", "chat", {"preferences": PLAIN})
    assert {type(one.row) for one in plain.rows("train")} == {TextRow}
    assert "preferences" not in plain.options
