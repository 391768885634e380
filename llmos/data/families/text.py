"""Rows of the text family: a prompt and its completion, or a conversation that ends with the assistant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.objective import FORMS, takes_preferences
from llmos.abi.recipe import Data
from llmos.abi.task import Family, spec_of, tasks_in
from llmos.data.cells import is_filled, text_in
from llmos.data.columns import Roles, assign_columns, find, first_of
from llmos.data.families import preferences
from llmos.data.language_pairs import LanguagePair, language_pair
from llmos.data.row import PreferenceRow, Row, TextRow, UnpairedRow
from llmos.data.row_reader import LeftOut, RowReader
from llmos.data.table import Record, Table, bad_row, refuse_marked
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
    "completion": ("completion", "response", "output", "answer", "assistant", "reply", "chosen", "target", "label"),
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
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "bot": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant", "system": "system",
}  # fmt: skip
EXAMPLE = '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! How can I help?"}]'


def shape_of(task: str) -> TextShape:
    return TALK if spec_of(task).is_conversation else BY_TASK.get(task, CONTINUED)


def column_names(task: str) -> frozenset[str]:
    """Names of columns besides those that every task knows."""
    own = (name for names in shape_of(task).roles.values() for name in names)
    return frozenset((*own, *TALKS, *(preferences.NAMES if takes_preferences(task) else ())))


def plain_tasks(table: Table) -> tuple[str, ...]:
    """Those of the family whose columns have names that no other task has; conversations are for those that learn them.

    A prompt and a completion may be for several, which are all named.
    """
    names = [name.lower() for name in table.names]
    talks = first_of(names, TALKS)
    found = []
    for task in tasks_in(Family.TEXT):
        shape = shape_of(task)
        if shape.finds_talks:
            is_prompt = first_of(names, ("prompt", "instruction")) is not None
            is_pair = is_prompt and first_of(names, ("completion", "response", "output", "chosen")) is not None
            found += [task] if (talks is not None and shape.learns_talks) or (talks is None and is_pair) else []
        else:
            first, second = shape.roles.values()
            is_pair = first_of(names, first) is not None and first_of(names, second[:3]) is not None
            found += [task] if is_pair or _holds_languages(table, shape) else []
    return tuple(found)


def _holds_languages(table: Table, shape: TextShape) -> bool:
    return "source" in shape.roles and any(
        name.lower() == "translation" and any(isinstance(cell, dict) for cell in table.column(i))
        for i, name in enumerate(table.names)
    )


def example(task: str) -> str:
    """A row as JSON, for messages."""
    shape = shape_of(task)
    if shape.learns_talks:
        return f'{{"messages": {EXAMPLE}}}'
    return "{" + ", ".join(f'"{role}": "..."' for role in shape.roles) + "}"


def row_reader(task: str, table: Table, data: Data, options: dict[str, Json]) -> RowReader[TextRow]:
    """Reads what is asked and what is answered, or a conversation; BadInput where the table holds no such texts."""
    refuse_marked(table, task, "texts to write")
    if takes_preferences(task) and (form := preferences.form_in(table, options)) in FORMS:
        return preferences.row_reader(task, table, form, data)
    shape = shape_of(task)
    roles = shape.roles
    at = talks_column(table, data) if shape.finds_talks else None
    if at is not None:
        if not shape.learns_talks:
            raise BadInput(
                f"{table.path.name} has conversations ({table.names[at]}), which {task} has no use for. Train chat, or "
                "name the columns with the options text and label",
                file=str(table.path),
                column=table.names[at],
                task=task,
            )
        return _conversation_reader(task, table, at)
    pair = language_pair(table, data) if "source" in roles else None
    if pair is not None:
        return _pair_reader(task, table, pair)
    places, note = assign_columns(table, roles, data)
    check = task_of(task).check
    more = prompt_parts(table, places) if roles is PROMPTED and data.text is None else PromptParts()
    more.refuse_unused(table, task, is_talk=shape.learns_talks)

    def row(record: Record) -> TextRow:
        asked, said = (text_in(table, record.line, record.cells[places[role]], role) for role in roles)
        asked = more.with_input(table, record, asked)
        whole = {"messages": more.messages(table, record, asked)} if more.is_talk else asked
        return TextRow(check(whole), said, str(table.path), record.line)

    columns = {role: table.names[i] for role, i in places.items()} | more.names_in(table)
    required = tuple((places[role],) for role in roles)
    return RowReader(row, columns, frozenset(places.values()) | more.columns, required, note)


def _pair_reader(task: str, table: Table, pair: LanguagePair) -> RowReader[TextRow]:
    check = task_of(task).check

    def row(record: Record) -> TextRow:
        asked, said = pair.texts(table, record)
        return TextRow(check(asked), said, str(table.path), record.line)

    name = table.names[pair.column]
    columns = {"source": f"{name}.{pair.source}", "target": f"{name}.{pair.target}"}
    return RowReader(row, columns, frozenset({pair.column}), ((pair.column,),), pair.note)


@dataclass(frozen=True, slots=True)
class PromptParts:
    """Columns beside a prompt that are part of what is asked, as Alpaca's rows have them: indexes, or None.

    `input` continues the instruction, `system` stands before the conversation, `history` is its earlier turns.
    """

    input: int | None = None
    system: int | None = None
    history: int | None = None

    @property
    def columns(self) -> frozenset[int]:
        return frozenset(at for at in (self.input, self.system, self.history) if at is not None)

    @property
    def is_talk(self) -> bool:
        return self.system is not None or self.history is not None

    def names_in(self, table: Table) -> dict[str, str]:
        parts = {"input": self.input, "system": self.system, "history": self.history}
        return {role: table.names[at] for role, at in parts.items() if at is not None}

    def refuse_unused(self, table: Table, task: str, *, is_talk: bool) -> None:
        """BadInput where rows have a system prompt or a history, and the task takes one text."""
        if self.is_talk and not is_talk:
            names = [name for role, name in self.names_in(table).items() if role != "input"]
            raise BadInput(
                f"{table.path.name} has {' and '.join(names)}, which {task} has no use for. Train chat, which reads "
                "them, or name the columns with the options text and label",
                file=str(table.path),
                column=names[0],
                task=task,
            )

    def with_input(self, table: Table, record: Record, instruction: str) -> str:
        """The instruction, and below an empty line its input, where it has one."""
        cell = None if self.input is None else record.cells[self.input]
        return f"{instruction}\n\n{text_in(table, record.line, cell, 'input')}" if is_filled(cell) else instruction

    def messages(self, table: Table, record: Record, asked: str) -> list[Json]:
        """The conversation that ends with what is asked."""
        cell = None if self.system is None else record.cells[self.system]
        said = [{"role": "system", "content": text_in(table, record.line, cell, "system")}] if is_filled(cell) else []
        turns = None if self.history is None else record.cells[self.history]
        for turn in parse_list(table, record.line, turns) if is_filled(turns) else ():
            if not isinstance(turn, (list, tuple)) or len(turn) != 2:
                way_out = 'A history is a list of turns: [["a question", "its answer"]]'
                raise bad_row(table.path, record.line, "a turn is no pair", way_out, turn, kind="history")
            question, answer = (text_in(table, record.line, text, "turn") for text in turn)
            said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*said, {"role": "user", "content": asked}]


def prompt_parts(table: Table, places: dict[str, int]) -> PromptParts:
    """The columns called input, system and history that no role has taken, and in which something stands."""
    names = {name.lower(): i for i, name in reversed(list(enumerate(table.names))) if i not in places.values()}
    filled = {name: i for name, i in names.items() if any(map(is_filled, table.column(i)))}
    is_instruction = table.names[places["prompt"]].lower() in ("instruction", "prompt")
    return PromptParts(
        filled.get("input") if is_instruction else None,
        filled.get("system", filled.get("system_prompt")),
        filled.get("history"),
    )


def talks_column(table: Table, data: Data) -> int | None:
    """The column of conversations: the one told as text where no answer's column is told, or one of a known name."""
    if data.label is not None:
        return None
    if data.text is not None:
        return find(table, data.text) if "," not in data.text and data.text.lower() in TALKS else None
    return next((i for i, name in enumerate(table.names) if name.lower() in TALKS), None)


def _conversation_reader(task: str, table: Table, at: int) -> RowReader[TextRow]:
    tools, system = (
        next((i for i, name in enumerate(table.names) if name.lower() == wanted), None)
        for wanted in ("tools", "system")
    )

    def row(record: Record) -> TextRow | LeftOut:
        cells = record.cells
        talk = cells[at] if system is None else led_by_system(table, record.line, cells[at], cells[system])
        return _conversation(task, table, record.line, talk, None if tools is None else cells[tools])

    used = frozenset(i for i in (at, tools, system) if i is not None)
    return RowReader(row, {"messages": table.names[at]}, used, ((at,),))


def _conversation(task: str, table: Table, line: int, messages: Json, tools: Json) -> TextRow | LeftOut:
    """The conversation, of which the assistant's last message is learned; left out where that has the weight 0."""
    turns, weight = as_messages(table, line, parse_list(table, line, messages))
    said = {
        "messages": turns,
        **({"tools": parse_list(table, line, tools)} if tools else {}),
    }
    try:
        checked = task_of(task).check(said)
    except LlmosError as error:
        raise bad_row(
            table.path, line, error.message, f"A conversation is {EXAMPLE}", messages, kind="messages"
        ) from error
    *before, last = checked["messages"]
    if weight == 0:
        return LeftOut("of weight 0")
    if last["role"] != "assistant":
        way_out = "Let it end with what the assistant says, which is what is learnt"
        what = f"the conversation ends with the {last['role']}"
        raise bad_row(table.path, line, what, way_out, last["content"], kind="last_role")
    if not before:
        what = "the assistant's message answers nothing"
        raise bad_row(table.path, line, what, f"Give {EXAMPLE}", last["content"], kind="no_question")
    return TextRow({**checked, "messages": before}, last["content"], str(table.path), line, _whole(last))


def led_by_system(table: Table, line: int, talk: Json, system: Json) -> Json:
    """The conversation behind the system prompt of its row, unless it has one of its own."""
    turns = parse_list(table, line, talk)
    has_own = isinstance(turns, list) and turns[:1] and "system" in (turns[0].get("role"), turns[0].get("from"))
    if not is_filled(system) or not isinstance(turns, list) or has_own:
        return turns
    return [{"role": "system", "content": text_in(table, line, system, "system")}, *turns]


def as_messages(table: Table, line: int, turns: Json) -> tuple[Json, Json]:
    """Messages with role and content, from ShareGPT's turns too, and the last one's weight (None: it has none)."""
    if not isinstance(turns, list):
        return turns, None
    messages = []
    weight = None
    for turn in turns:
        if not isinstance(turn, dict):
            return turns, None
        weight = turn.get("weight")
        one = {key: value for key, value in turn.items() if key != "weight"}
        if "from" in one and "role" not in one:
            role = SPEAKERS.get(str(one.pop("from")).lower())
            if role is None:
                way_out = f"Speakers are {', '.join(SPEAKERS)}"
                raise bad_row(table.path, line, "a turn is of an unknown speaker", way_out, turn, kind="messages")
            one = {"role": role, "content": one.pop("value", None), **one}
        messages.append(one)
    return messages, weight


def parse_list(table: Table, line: int, cell: Json) -> Json:
    """A list as JSON lines and Parquet have it, or its JSON as text."""
    if not isinstance(cell, str):
        return _plain(cell)
    try:
        return json.loads(cell)
    except ValueError as error:
        raise bad_row(table.path, line, f"not JSON ({error})", f"Messages are {EXAMPLE}", cell, kind="json") from error


def _plain(cell: Json) -> Json:
    """Without the empty fields that Parquet gives to every message of a column."""
    if isinstance(cell, list):
        return [_plain(one) for one in cell]
    return {k: _plain(v) for k, v in cell.items() if v is not None} if isinstance(cell, dict) else cell


def stored_columns(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The columns of a stored dataset."""
    form = preferences.form_asked(options)
    return preferences.stored_columns(task, form) if form in FORMS else shape_of(task).columns


def stored_cells(task: str, row: TextRow) -> tuple[Json, ...]:
    if isinstance(row, PreferenceRow | UnpairedRow):
        return preferences.stored_cells(task, row)
    return _talk_cells(row) if shape_of(task).learns_talks else (row.prompt, row.answer)


def _talk_cells(row: TextRow) -> tuple[Json, ...]:
    """A conversation as JSON, for tables want columns of one shape."""
    last = row.completion if row.message else {"role": "assistant", "content": row.answer}
    messages = json.dumps([*row.input["messages"], last], ensure_ascii=False)
    return messages, json.dumps(row.input["tools"], ensure_ascii=False) if row.input.get("tools") else None


def stored_types(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The type of each column of a stored dataset."""
    form = preferences.form_asked(options)
    return preferences.stored_types(task, form) if form in FORMS else dict.fromkeys(shape_of(task).columns, "text")


def stored_row(task: str, options: Mapping[str, Json], cells: Mapping[str, Json], file: str, line: int) -> TextRow:
    shape, check = shape_of(task), task_of(task).check
    if preferences.is_stored(cells):
        return preferences.stored_row(task, cells, preferences.form_asked(options), file, line)
    if not shape.learns_talks:
        asked, said = (cells[name] for name in shape.columns)
        return TextRow(check(asked), said, file, line)
    tools = {"tools": json.loads(cells["tools"])} if cells.get("tools") else {}
    checked = check({"messages": json.loads(cells["messages"]), **tools})
    *before, last = checked["messages"]
    return TextRow({**checked, "messages": before}, last["content"], file, line, _whole(last))


def _whole(message: Mapping[str, Json]) -> str:
    """A message as JSON, if it is more than its text."""
    return json.dumps(message, ensure_ascii=False, sort_keys=True) if message.keys() - {"role", "content"} else ""


def labels_of(task: str, rows: Iterable[Row]) -> tuple[str, ...]:
    return ()


def refuse_unknown(rows: Iterable[Row], labels: Sequence[str]) -> None:
    """Nothing: these rows have no labels."""


def options_of(task: str, rows: Sequence[Row]) -> dict[str, Json]:
    return {}
