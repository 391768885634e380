"""Preference rows of the text family: a prompt with a better and a worse answer, or with one that is good or bad.

The forms are those of Hugging Face's datasets, as texts and as messages, and OpenAI's for preference fine-tuning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.objective import DETECT, PAIRED, PLAIN, UNPAIRED
from llmos.abi.recipe import Data
from llmos.abi.task import PREFERENCES, spec_of
from llmos.data.cells import is_filled, kind_of, text_in
from llmos.data.columns import find, first_of
from llmos.data.row import PreferenceRow, TextRow, UnpairedRow
from llmos.data.row_reader import RowReader
from llmos.data.table import Record, Table, bad_row
from llmos.tasks import task as task_of

PROMPTS = ("prompt", "instruction", "question", "query", "input")
CHOSEN = ("chosen", "preferred_output")
REJECTED = ("rejected", "non_preferred_output")
COMPLETIONS = ("completion", "response", "output", "answer")
LABELS = ("label", "desirable")
NAMES = (*PROMPTS, *CHOSEN, *REJECTED, *COMPLETIONS, *LABELS)
TURN = "\n\nAssistant:"  # before the last answer of a dialogue that is one text, as in Anthropic's hh-rlhf
TRUTHS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "good": True, "bad": False}
EXAMPLE = '{"prompt": "...", "chosen": "...", "rejected": "..."}'
SINGLE = '{"prompt": "...", "completion": "...", "label": true}'


def example_of(form: str) -> str:
    """A row of this form as JSON, for messages."""
    return EXAMPLE if form == PAIRED else SINGLE


def form_asked(options: Mapping[str, Json]) -> str:
    """How preference rows are to be read; by default their better answer alone."""
    return str(options.get(PREFERENCES.name) or PLAIN)


def form_of(row: object) -> str:
    """The form of this row."""
    return PAIRED if isinstance(row, PreferenceRow) else UNPAIRED if isinstance(row, UnpairedRow) else PLAIN


def form_in(table: Table, options: Mapping[str, Json]) -> str:
    """The form that this table is read in: as asked, or, where it is to be found out, as its columns and cells say."""
    asked = form_asked(options)
    if asked != DETECT:
        return asked
    names = [name.lower() for name in table.names]
    if first_of(names, CHOSEN) is not None and first_of(names, REJECTED) is not None:
        return PAIRED
    at = first_of(names, LABELS)
    is_single = first_of(names, PROMPTS) is not None and first_of(names, COMPLETIONS) is not None and at is not None
    return UNPAIRED if is_single and at is not None and all(map(_is_truth, table.column(at))) else PLAIN


def stored_columns(task: str, form: str) -> dict[str, str]:
    """The columns of a stored dataset of these rows."""
    talks = ", as JSON" if spec_of(task).is_conversation else ""
    if form == PAIRED:
        own = {"prompt": f"what is answered{talks}", "chosen": f"the better answer{talks}"}
        own["rejected"] = f"the worse answer{talks}"
    else:
        own = {"prompt": f"what is answered{talks}", "completion": f"an answer{talks}", "label": "whether it is good"}
    return {**own, **({"tools": "what it may call, as JSON"} if talks else {})}


def stored_types(task: str, form: str) -> dict[str, str]:
    """The type of each column."""
    return {name: "flag" if name == "label" else "text" for name in stored_columns(task, form)}


def stored_cells(task: str, row: PreferenceRow | UnpairedRow) -> tuple[Json, ...]:
    """A row in these columns."""
    if not spec_of(task).is_conversation:
        return row.prompt, row.answer, row.rejected if isinstance(row, PreferenceRow) else row.is_good
    tools = _json(row.input["tools"]) if row.input.get("tools") else None
    if isinstance(row, PreferenceRow):
        other: Json = _json(message_of(row.rejected, row.rejected_message))
    else:
        other = row.is_good
    return _json(row.input["messages"]), _json(message_of(row.answer, row.message)), other, tools


def stored_row(task: str, cells: Mapping[str, Json], form: str, file: str, line: int) -> TextRow:
    """The row in these cells; in the form `off` a text row with the better answer."""
    check = task_of(task).check
    if spec_of(task).is_conversation:
        tools = {"tools": json.loads(cells["tools"])} if cells.get("tools") else {}
        asked = check({"messages": json.loads(cells["prompt"]), **tools})
    else:
        asked = check(cells["prompt"])
    is_talk = spec_of(task).is_conversation

    def answer_in(name: str) -> tuple[str, str]:
        return _parts(json.loads(cells[name])) if is_talk else (str(cells[name]), "")

    if "chosen" not in cells:
        answer, message = answer_in("completion")
        return UnpairedRow(asked, answer, file, line, message, bool(cells["label"]))
    (answer, message), (rejected, other) = answer_in("chosen"), answer_in("rejected")
    if form == PLAIN:
        return TextRow(asked, answer, file, line, message)
    return PreferenceRow(asked, answer, file, line, message, rejected, other)


def is_stored(cells: Mapping[str, Json]) -> bool:
    """Whether the cells are those of a stored preference row."""
    return "prompt" in cells and ("chosen" in cells or "label" in cells)


def row_reader(task: str, table: Table, form: str, data: Data) -> RowReader[TextRow]:
    """Reads rows of this form; BadInput where the table lacks their columns."""
    reading = _Reading(task, table, _columns(table, form, data))
    columns = {role: table.names[at] for role, at in reading.at.items()}
    answers = ("chosen", "rejected") if form == PAIRED else ("completion",)
    required = tuple((reading.at[role],) for role in answers)
    row = reading.read_pair if form == PAIRED else reading.read_single
    return RowReader(row, columns, frozenset(reading.at.values()), required, options={PREFERENCES.name: form})


def _columns(table: Table, form: str, data: Data) -> dict[str, int]:
    """Which column is for what: by name, or as told: `text` is the prompt, `label` whether an answer is good."""
    names = [name.lower() for name in table.names]
    roles: dict[str, tuple[str, ...]] = {"prompt": PROMPTS, "system": ("system", "system_prompt"), "tools": ("tools",)}
    needed = {"chosen": CHOSEN, "rejected": REJECTED} if form == PAIRED else {"completion": COMPLETIONS, "good": LABELS}
    places = {role: at for role, known in (roles | needed).items() if (at := first_of(names, known)) is not None}
    places |= {"prompt": find(table, data.text)} if data.text else {}
    places |= {"good": find(table, data.label)} if data.label and form == UNPAIRED else {}
    lacking = [known[0] for role, known in needed.items() if role not in places]
    if form == UNPAIRED and "prompt" not in places:
        lacking.insert(0, "prompt")
    if lacking:
        raise BadInput(
            f"{table.path.name} has no column {' and no column '.join(map(repr, lacking))} (it has "
            f"{', '.join(table.names)}). A row of preferences is {example_of(form)}",
            file=str(table.path),
            expected=lacking,
        )
    return places


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the rows of one table are read: the task, and which column is for what."""

    task: str
    table: Table
    at: dict[str, int]

    @property
    def is_talk(self) -> bool:
        return spec_of(self.task).is_conversation

    def read_pair(self, record: Record) -> PreferenceRow:
        chosen, rejected = (self._value(record, role) for role in ("chosen", "rejected"))
        prompt = self._value(record, "prompt")
        if not is_filled(prompt) and isinstance(chosen, str) and isinstance(rejected, str):
            prompt, chosen, rejected = self._split_dialogues(record, chosen, rejected)
        asked, (answer, message) = self._exchange(record, prompt, chosen, "chosen")
        other, (worse, its_message) = self._exchange(record, prompt, rejected, "rejected")
        if asked != other:
            way_out = "Give the prompt in a column of its own"
            raise self._bad(record, "chosen and rejected answer different prompts", way_out, other, "prompts")
        if (answer, message) == (worse, its_message):
            way_out = "Leave such rows out: neither answer is better"
            raise self._bad(record, "chosen and rejected are the same", way_out, answer, "no_preference")
        return PreferenceRow(asked, answer, str(self.table.path), record.line, message, worse, its_message)

    def read_single(self, record: Record) -> UnpairedRow:
        value = self._value(record, "good")
        if not _is_truth(value):
            what = f"the label is {kind_of(value) if not is_filled(value) else repr(value)[:40]}"
            raise self._bad(record, what, "Give true for a good answer, and false for a bad one", value, "label")
        completion = self._value(record, "completion")
        asked, (answer, message) = self._exchange(record, self._value(record, "prompt"), completion, "completion")
        return UnpairedRow(asked, answer, str(self.table.path), record.line, message, TRUTHS[str(value).lower()])

    def _value(self, record: Record, role: str) -> Json:
        """The cell, with messages as a list where they stand there as JSON."""
        at = self.at.get(role)
        cell = None if at is None else record.cells[at]
        if not (self.is_talk and isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{")):
            return cell
        try:
            found = json.loads(cell)
        except ValueError:
            return cell
        return found if _is_messages(found) or role == "tools" else cell

    def _exchange(self, record: Record, prompt: Json, answer: Json, what: str) -> tuple[Json, tuple[str, str]]:
        """What is asked, checked, and the answer: its text, and the whole message where it is more."""
        given, tools = _of_openai(prompt)
        turns = _without_nulls(answer) if isinstance(answer, (list, dict)) else None
        if turns is None and not isinstance(given, list):
            text = text_in(self.table, record.line, answer, what)
            return self._input(record, text_in(self.table, record.line, given, "prompt"), tools), (text, "")
        if not self.is_talk:
            raise BadInput(
                f"{self.table.path.name} has conversations ({what}), which {self.task} has no use for. Train chat",
                file=str(self.table.path),
                task=self.task,
            )
        if turns is None:
            turns = {"role": "assistant", "content": text_in(self.table, record.line, answer, what)}
        said = turns if isinstance(turns, list) else [turns]
        before = _without_nulls(given) if isinstance(given, list) else []
        if isinstance(given, str) and given.strip() and len(said) < 2:  # else the answer repeats the prompt
            before = [{"role": "user", "content": given}]
        messages = said if said[: len(before)] == before else [*before, *said]
        return self._conversation(record, messages, tools, what)

    def _input(self, record: Record, prompt: str, tools: Json) -> Json:
        system = self._value(record, "system")
        check = task_of(self.task).check
        if not self.is_talk:
            return check(prompt)
        led = [{"role": "system", "content": system}] if is_filled(system) else []
        return check({"messages": [*led, {"role": "user", "content": prompt}], **self._tools(record, tools)})

    def _tools(self, record: Record, given: Json) -> dict[str, Json]:
        tools = given or self._value(record, "tools")
        return {"tools": _without_nulls(tools)} if tools else {}

    def _conversation(self, record: Record, messages: Json, tools: Json, what: str) -> tuple[Json, tuple[str, str]]:
        system = self._value(record, "system")
        if is_filled(system) and messages[0].get("role") != "system":
            messages = [{"role": "system", "content": system}, *messages]
        try:
            checked = task_of(self.task).check({"messages": messages, **self._tools(record, tools)})
        except LlmosError as error:
            raise self._bad(record, error.message, f"A row is {EXAMPLE}", messages, "messages") from error
        *before, last = checked["messages"]
        if last["role"] != "assistant" or not before:
            way_out = "Let it begin with the prompt and end with what the assistant says"
            raise self._bad(record, f"{what} is no answer of the assistant to anything", way_out, messages, "last_role")
        return {**checked, "messages": before}, _parts(last)

    def _split_dialogues(self, record: Record, chosen: str, rejected: str) -> tuple[str, str, str]:
        """Two texts of the same dialogue, which differ in the last answer."""
        at = chosen.rfind(TURN)
        if at < 0 or at != rejected.rfind(TURN) or chosen[:at] != rejected[:at]:
            way_out = f"Give a column prompt: {EXAMPLE}"
            raise self._bad(record, "there is no prompt", way_out, chosen, "no_prompt")
        end = at + len(TURN)
        return chosen[:end], chosen[end:], rejected[end:]

    def _bad(self, record: Record, what: str, way_out: str, value: Json, kind: str) -> LlmosError:
        return bad_row(self.table.path, record.line, what, way_out, value, kind=kind)


def _of_openai(prompt: Json) -> tuple[Json, Json]:
    """What is asked, and its tools, in OpenAI's form of an input; others are as they are."""
    if isinstance(prompt, dict) and "messages" in prompt:
        return prompt["messages"], prompt.get("tools")
    return prompt, None


def _is_messages(value: Json) -> bool:
    """Whether these are messages, one message, or OpenAI's input with messages."""
    if isinstance(value, dict):
        return "messages" in value or "role" in value
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "role" in one for one in value)


def _is_truth(cell: Json) -> bool:
    return str(cell).strip().lower() in TRUTHS


def _parts(message: Json) -> tuple[str, str]:
    """A message's text, and the whole of it as JSON where it is more than that."""
    whole = json.dumps(message, ensure_ascii=False, sort_keys=True) if message.keys() - {"role", "content"} else ""
    return message["content"], whole


def message_of(text: str, whole: str) -> Json:
    """The assistant's message with this text, or the whole one where that is more."""
    return json.loads(whole) if whole else {"role": "assistant", "content": text}


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _without_nulls(value: Json) -> Json:
    """Without the empty fields that Parquet gives to every message of a column."""
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    return {k: _without_nulls(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value
