"""Supervised fine-tuning rows: a prompt and its completion, or a conversation that ends with the assistant."""

from __future__ import annotations

import json
from pathlib import Path

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.cells import text_in
from llmos.data.columns import find
from llmos.data.files import open_table
from llmos.data.pair_rows import Roles, assign_columns
from llmos.data.row import Row, Rows, WrittenText
from llmos.data.table import Table, bad_row
from llmos.tasks import task as task_of

PROMPTED: Roles = {
    "prompt": ("prompt", "instruction", "input", "question", "query", "user", "source", "text"),
    "completion": ("completion", "response", "output", "answer", "assistant", "reply", "target", "label"),
}
ROLES: dict[str, Roles] = {
    "generate": PROMPTED,
    "chat": PROMPTED,
    "summarize": {
        "text": ("text", "document", "article", "dialogue", "body", "content", "source", "input"),
        "summary": ("summary", "highlights", "abstract", "tldr", "headline", "title", "target", "output", "label"),
    },
    "translate": {
        "source": ("source", "text", "src", "original", "input"),
        "target": ("target", "translation", "tgt", "output", "label"),
    },
}
TALKS = ("messages", "conversation", "conversations", "dialogue", "dialog", "chat")
EXAMPLE = '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! How can I help?"}]'


def read_written(file: Path, form: str, data: Data, task: str) -> Rows:
    """Every row of the file; BadRow at the first that lacks what it asks or what it answers."""
    if form in ("conll", "squad"):
        raise BadInput(f"{file.name} is read as {form}, which holds no texts to write. Give csv, tsv, jsonl or parquet")
    roles = ROLES[task]
    table = open_table(file, form, data, {*(name for names in roles.values() for name in names), *TALKS})
    at = _talks(table, data) if task in ("chat", "generate") else None
    if at is not None:
        if task != "chat":
            raise BadInput(
                f"{file.name} has conversations ({table.names[at]}), which {task} has no use for. Train chat, or name "
                "the columns with the options text and label"
            )
        return _conversations(table, at, form)
    places, note = assign_columns(table, roles, data)
    check = task_of(task).check
    rows = []
    for line, cells in table.rows:
        asked, said = (text_in(table, line, cells[places[role]], role) for role in roles)
        rows.append(Row(check(asked), WrittenText(said), str(file), line))
    return Rows(tuple(rows), str(file), form, {role: table.names[i] for role, i in places.items()}, note=note)


def _talks(table: Table, data: Data) -> int | None:
    """The column of conversations: the one told as text where no answer's column is told, or one of a known name."""
    if data.label is not None:
        return None
    if data.text is not None:
        return find(table, data.text) if "," not in data.text and data.text.lower() in TALKS else None
    return next((i for i, name in enumerate(table.names) if name.lower() in TALKS), None)


def _conversations(table: Table, at: int, form: str) -> Rows:
    tools = next((i for i, name in enumerate(table.names) if name.lower() == "tools"), None)
    rows = [
        _conversation(table, line, cells[at], None if tools is None else cells[tools]) for line, cells in table.rows
    ]
    return Rows(tuple(rows), str(table.path), form, {"messages": table.names[at]})


def _conversation(table: Table, line: int, messages: Json, tools: Json) -> Row:
    said = {
        "messages": _parse_list(table, line, messages),
        **({"tools": _parse_list(table, line, tools)} if tools else {}),
    }
    try:
        checked = task_of("chat").check(said)
    except LlmosError as error:
        raise bad_row(table.path, line, error.message, f"A conversation is {EXAMPLE}", messages) from error
    *before, last = checked["messages"]
    if last["role"] != "assistant":
        way_out = "Let it end with what the assistant says, which is what is learnt"
        raise bad_row(table.path, line, f"the conversation ends with the {last['role']}", way_out, last["content"])
    if not before:
        raise bad_row(table.path, line, "the assistant's message answers nothing", f"Give {EXAMPLE}", last["content"])
    whole = json.dumps(last, ensure_ascii=False, sort_keys=True) if last.keys() - {"role", "content"} else ""
    return Row({**checked, "messages": before}, WrittenText(last["content"], whole), str(table.path), line)


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


def cells(row: Row) -> tuple[Json, ...]:
    """A row of a conversation as its columns have it: JSON, for tables want columns of one shape."""
    assert isinstance(row.label, WrittenText)
    last = row.label.answer if row.label.message else {"role": "assistant", "content": row.label.text}
    messages = json.dumps([*row.input["messages"], last], ensure_ascii=False)
    return messages, json.dumps(row.input["tools"], ensure_ascii=False) if row.input.get("tools") else None
