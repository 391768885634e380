"""Rows of two texts and a number: query, document and grade (rerank), or two texts and a score (similarity)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from llmos.abi.error import BadInput, BadRow
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.cells import number_in, text_in
from llmos.data.columns import find
from llmos.data.files import open_table
from llmos.data.row import Row, Rows
from llmos.data.table import Table, bad_row

Roles = Mapping[str, tuple[str, ...]]  # what a column is for, and the names it is known by

GRADES = ("label", "relevance", "score", "grade", "rating", "target", "relevant", "similarity")
PAIRED: dict[str, Roles] = {
    "rerank": {
        "query": ("query", "question", "search"),
        "document": ("document", "passage", "doc", "text", "answer", "content", "body", "candidate"),
        "label": GRADES,
    },
    "similarity": {
        "text": ("text", "sentence1", "sentence_1", "text1", "text_1", "sentence_a", "text_a", "first", "anchor"),
        "other": ("other", "sentence2", "sentence_2", "text2", "text_2", "sentence_b", "text_b", "second", "pair"),
        "score": ("score", "similarity", *GRADES),
    },
}


def read_pairs(file: Path, form: str, data: Data, task: str) -> Rows:
    """Every row of the file; BadRow at the first that lacks a text or has no number."""
    if form in ("conll", "squad"):
        raise BadInput(f"{file.name} is read as {form}, which holds no pairs of texts. Give csv, tsv, jsonl or parquet")
    roles = PAIRED[task]
    table = open_table(file, form, data, {name for names in roles.values() for name in names})
    places, note = assign_columns(table, roles, data)
    first, second, number = roles
    rows = []
    for line, cells in table.rows:
        texts = [text_in(table, line, cells[places[role]], role) for role in (first, second)]
        value = number_in(table, line, cells[places[number]], number)
        if task == "rerank" and value < 0:
            raise bad_row(file, line, f"the label is {value:g}", "0 says not relevant, and more is better", value)
        rows.append(Row(_input(task, texts), value, str(file), line))
    return Rows(tuple(rows), str(file), form, {role: table.names[i] for role, i in places.items()}, note=note)


def _input(task: str, texts: Sequence[str]) -> Json:
    first, second = texts
    return {"query": first, "documents": [second]} if task == "rerank" else {"text": first, "other": second}


def assign_columns(table: Table, roles: Roles, data: Data) -> tuple[dict[str, int], str]:
    """Which column is for what: as told, by their names, or in the order of the roles where there is no header."""
    *texts, last = roles
    told = dict(zip(texts, (part.strip() for part in data.text.split(",")), strict=False)) if data.text else {}
    if data.text and len(told) != len(texts):
        raise BadInput(
            f"text is {data.text!r}; it names {len(texts)} columns, {' and '.join(texts)}, with a comma between"
        )
    if data.label:
        told[last] = data.label
    places = {role: find(table, name) for role, name in told.items()}
    folded = {name.lower(): i for i, name in reversed(list(enumerate(table.names)))}
    for role, names in roles.items():
        if role not in places:
            at = next((folded[n] for n in names if n in folded and folded[n] not in places.values()), None)
            if at is not None:
                places[role] = at
    if not table.has_names and not told and len(table.names) == len(roles):
        order = ", ".join(roles)
        return dict(zip(roles, range(len(roles)), strict=True)), (
            f"{table.path.name} has no header: its columns are taken as {order}. If that is wrong, give it one"
        )
    for role in roles:
        if role not in places:
            raise _lacking(table, role, roles)
    return {role: places[role] for role in roles}, ""


def _lacking(table: Table, role: str, roles: Roles) -> BadRow:
    *texts, last = roles
    there = ", ".join(table.names) if table.has_names else f"no header, so numbers 0 to {len(table.names) - 1}"
    message = (
        f"{table.path}, line 1: no column that is called like the {role} ({', '.join(roles[role][:4])} ...). "
        f"There are: {there}. Name them with the options text ({','.join(texts)}, with the comma) and label ({last})"
    )
    return BadRow(message, file=str(table.path), line=1, value=list(table.names))


def scale_of(rows: Sequence[Row]) -> float:
    """What numbers are divided by so that the best is 1; scores that lie in -1 to 1 already are left as they are."""
    numbers = [row.label for row in rows if isinstance(row.label, float)]
    return max(1.0, *(abs(one) for one in numbers))
