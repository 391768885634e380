"""Rows of the text family: a prompt and its completion, or a conversation that ends with the assistant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.abi.task import spec_of
from llmos.data.cells import text_in
from llmos.data.columns import Roles, assign_columns, find
from llmos.data.files import open_table
from llmos.data.row import Row, Rows, TextRow
from llmos.data.table import Table, bad_row
from llmos.tasks import task as task_of


@dataclass(frozen=True, slots=True)
class TextShape:
    """The columns of a task of this family: in the files that users bring, and in a stored dataset."""

    roles: Roles
    columns: dict[str, str]
    finds_talks: bool = False  # a column of conversations is looked for
    learns_talks: bool = False  # and trained on; others refuse it


PROMPTED: Roles = {
    "prompt": ("prompt", "instruction", "input", "question", "query", "user", "source", "text"),
    "completion": ("completion", "response", "output", "answer", "assistant", "reply", "target", "label"),
}
CONTINUED = TextShape(PROMPTED, {"prompt": "what is continued", "completion": "what continues it"}, finds_talks=True)
TALK = TextShape(
    PROMPTED,
    {"messages": "the conversation, as JSON; the assistant's last", "tools": "what it may call, as JSON"},
    finds_talks=True,
    learns_talks=True,
)
BY_TASK = {
    "summarize": TextShape(
        {
            "text": ("text", "document", "article", "dialogue", "body", "content", "source", "input"),
            "summary": ("summary", "highlights", "abstract", "tldr", "headline", "title", "target", "output", "label"),
        },
        {"text": "text", "summary": "what it says, in fewer words"},
    ),
    "translate": TextShape(
        {
            "source": ("source", "text", "src", "original", "input"),
            "target": ("target", "translation", "tgt", "output", "label"),
        },
        {"source": "text", "target": "the same in the other language"},
    ),
}
TALKS = ("messages", "conversation", "conversations", "dialogue", "dialog", "chat")
EXAMPLE = '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! How can I help?"}]'


def shape_of(task: str) -> TextShape:
    return TALK if spec_of(task).is_conversation else BY_TASK.get(task, CONTINUED)


def read(task: str, file: Path, form: str, data: Data, options: dict[str, Json]) -> Rows[TextRow]:
    """Every row of the file; BadRow at the first that lacks what it asks or what it answers."""
    if form in ("conll", "squad"):
        raise BadInput(f"{file.name} is read as {form}, which holds no texts to write. Give csv, tsv, jsonl or parquet")
    shape = shape_of(task)
    roles = shape.roles
    table = open_table(file, form, data, {*(name for names in roles.values() for name in names), *TALKS})
    at = _talks(table, data) if shape.finds_talks else None
    if at is not None:
        if not shape.learns_talks:
            raise BadInput(
                f"{file.name} has conversations ({table.names[at]}), which {task} has no use for. Train chat, or name "
                "the columns with the options text and label"
            )
        return _conversations(task, table, at, form)
    places, note = assign_columns(table, roles, data)
    check = task_of(task).check
    rows = []
    for line, cells in table.rows:
        asked, said = (text_in(table, line, cells[places[role]], role) for role in roles)
        rows.append(TextRow(check(asked), said, str(file), line))
    return Rows(tuple(rows), str(file), form, {role: table.names[i] for role, i in places.items()}, note=note)


def _talks(table: Table, data: Data) -> int | None:
    """The column of conversations: the one told as text where no answer's column is told, or one of a known name."""
    if data.label is not None:
        return None
    if data.text is not None:
        return find(table, data.text) if "," not in data.text and data.text.lower() in TALKS else None
    return next((i for i, name in enumerate(table.names) if name.lower() in TALKS), None)


def _conversations(task: str, table: Table, at: int, form: str) -> Rows[TextRow]:
    tools = next((i for i, name in enumerate(table.names) if name.lower() == "tools"), None)
    rows = [
        _conversation(task, table, line, cells[at], None if tools is None else cells[tools])
        for line, cells in table.rows
    ]
    return Rows(tuple(rows), str(table.path), form, {"messages": table.names[at]})


def _conversation(task: str, table: Table, line: int, messages: Json, tools: Json) -> TextRow:
    said = {
        "messages": _parse_list(table, line, messages),
        **({"tools": _parse_list(table, line, tools)} if tools else {}),
    }
    try:
        checked = task_of(task).check(said)
    except LlmosError as error:
        raise bad_row(table.path, line, error.message, f"A conversation is {EXAMPLE}", messages) from error
    *before, last = checked["messages"]
    if last["role"] != "assistant":
        way_out = "Let it end with what the assistant says, which is what is learnt"
        raise bad_row(table.path, line, f"the conversation ends with the {last['role']}", way_out, last["content"])
    if not before:
        raise bad_row(table.path, line, "the assistant's message answers nothing", f"Give {EXAMPLE}", last["content"])
    whole = json.dumps(last, ensure_ascii=False, sort_keys=True) if last.keys() - {"role", "content"} else ""
    return TextRow({**checked, "messages": before}, last["content"], str(table.path), line, whole)


def _parse_list(table: Table, line: int, cell: Json) -> Json:
    """A list as JSON lines and Parquet have it, or its JSON as text."""
    if not isinstance(cell, str):
        return _plain(cell)
    try:
        return json.loads(cell)
    except ValueError as error:
        raise bad_row(table.path, line, f"not JSON ({error})", f"Messages are {EXAMPLE}", cell) from error


def _plain(cell: Json) -> Json:
    """Without the empty fields that Parquet gives to every message of a column."""
    if isinstance(cell, list):
        return [_plain(one) for one in cell]
    return {k: _plain(v) for k, v in cell.items() if v is not None} if isinstance(cell, dict) else cell


def stored_columns(task: str) -> dict[str, str]:
    """The columns of a stored dataset."""
    return shape_of(task).columns


def stored_cells(task: str, row: TextRow) -> tuple[Json, ...]:
    return _talk_cells(row) if shape_of(task).learns_talks else (row.prompt, row.answer)


def _talk_cells(row: TextRow) -> tuple[Json, ...]:
    """A conversation as JSON, for tables want columns of one shape."""
    last = row.completion if row.message else {"role": "assistant", "content": row.answer}
    messages = json.dumps([*row.input["messages"], last], ensure_ascii=False)
    return messages, json.dumps(row.input["tools"], ensure_ascii=False) if row.input.get("tools") else None


def labels_of(task: str, rows: Iterable[Row]) -> tuple[str, ...]:
    return ()


def refuse_unknown(rows: Iterable[Row], labels: Sequence[str]) -> None:
    """Nothing: these rows have no labels."""


def options_of(task: str, rows: Sequence[Row]) -> dict[str, Json]:
    return {}
