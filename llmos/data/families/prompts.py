"""Rows of the text family without their answers: prompts and conversations that a teacher is to answer."""

from __future__ import annotations

from llmos.abi.error import LlmosError
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.cells import text_in
from llmos.data.columns import choose_texts, find, first_of
from llmos.data.families.text import (
    PROMPTED,
    PromptParts,
    as_messages,
    led_by_system,
    parse_list,
    prompt_parts,
    shape_of,
    talks_column,
)
from llmos.data.row import TextRow
from llmos.data.row_reader import LeftOut, RowReader
from llmos.data.table import Record, Table, bad_row
from llmos.tasks import task as task_of

EXAMPLE = '[{"role": "user", "content": "Hello"}]'


def input_reader(task: str, table: Table, data: Data) -> RowReader[TextRow]:
    """Reads what is asked alone. Of a conversation that ends with the assistant, that message is left out."""
    shape = shape_of(task)
    at = talks_column(table, data) if shape.finds_talks and shape.learns_talks else None
    if at is not None:
        return _conversation_reader(task, table, at)
    role, names = next(iter(shape.roles.items()))
    place, note = _prompt_column(table, data, names)
    check = task_of(task).check
    more = prompt_parts(table, {role: place, "prompt": place}) if shape.roles is PROMPTED else PromptParts()
    more.refuse_unused(table, task, is_talk=shape.learns_talks)

    def row(record: Record) -> TextRow:
        asked = more.with_input(table, record, text_in(table, record.line, record.cells[place], role))
        whole: Json = asked
        if shape.learns_talks:
            whole = {"messages": more.messages(table, record, asked)}
        return TextRow(check(whole), "", str(table.path), record.line)

    columns = {role: table.names[place]} | more.names_in(table)
    return RowReader(row, columns, frozenset({place}) | more.columns, ((place,),), note)


def _prompt_column(table: Table, data: Data, names: tuple[str, ...]) -> tuple[int, str]:
    """The column that is told, or of a known name, or the only one that holds texts."""
    folded = [name.lower() for name in table.names]
    if data.text is not None and data.text.lower() in folded:
        return find(table, data.text), ""
    known = first_of(folded, names)
    if known is not None:
        return known, ""
    (place, *_), note = choose_texts(table, None, tagged=False)
    return place, note


def _conversation_reader(task: str, table: Table, at: int) -> RowReader[TextRow]:
    folded = [name.lower() for name in table.names]
    tools, system = (first_of(folded, (wanted,)) for wanted in ("tools", "system"))

    def row(record: Record) -> TextRow | LeftOut:
        cells, line = record.cells, record.line
        talk = cells[at] if system is None else led_by_system(table, line, cells[at], cells[system])
        turns, _ = as_messages(table, line, parse_list(table, line, talk))
        if isinstance(turns, list) and _is_answered(turns):
            turns = turns[:-1]
        called = None if tools is None else cells[tools]
        asked = {"messages": turns, **({"tools": parse_list(table, line, called)} if called else {})}
        try:
            checked = task_of(task).check(asked)
        except LlmosError as error:
            way_out = f"A conversation to be answered is {EXAMPLE}"
            raise bad_row(table.path, line, error.message, way_out, talk, kind="messages") from error
        return TextRow(checked, "", str(table.path), line)

    used = frozenset(i for i in (at, tools, system) if i is not None)
    return RowReader(row, {"messages": table.names[at]}, used, ((at,),))


def _is_answered(turns: list[Json]) -> bool:
    return bool(turns) and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant"
