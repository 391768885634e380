"""Rows of the spans family: questions about passages, from SQuAD's JSON or tables with answers and their starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.abi.task import Family, tasks_in
from llmos.data.cells import is_filled, kind_of, text_in
from llmos.data.columns import Roles, assign_columns, first_of
from llmos.data.row import Row, SpanRow
from llmos.data.row_reader import RowReader
from llmos.data.table import Record, Table, bad_row
from llmos.tasks.answer import LABELS
from llmos.tasks.text import quote_value

ROLES: Roles = {
    "question": ("question", "query", "q"),
    "passage": ("passage", "context", "paragraph", "document", "text", "body"),
    "answer": ("answer", "answers", "answer_text", "label", "target"),
}
STARTS = ("start", "starts", "answer_start", "answer_starts", "start_char")


def column_names(task: str) -> frozenset[str]:
    """Names of columns besides those that every task knows."""
    return frozenset(name for names in ROLES.values() for name in names) | set(STARTS)


def plain_tasks(table: Table) -> tuple[str, ...]:
    """All of the family where a question, a passage and answers stand in a row."""
    names = [name.lower() for name in table.names]
    passage = first_of(names, ("context", "passage", "paragraph"))
    has_all = "question" in names and passage is not None and first_of(names, ("answers", "answer")) is not None
    return tasks_in(Family.SPANS) if has_all or table.format == "squad" else ()


def example(task: str) -> str:
    """A row as JSON, for messages."""
    return '{"question": "...", "context": "...", "answers": {"text": ["..."], "answer_start": [0]}}'


def row_reader(task: str, table: Table, data: Data, options: dict[str, Json]) -> RowReader[SpanRow]:
    """Reads a question, its passage and its answers; BadInput where the table holds no questions."""
    if table.format in ("conll", "conllu"):
        raise BadInput(
            f"{table.path.name} has CoNLL columns, which hold no questions. Give SQuAD's JSON, csv, tsv or jsonl",
            file=str(table.path),
            format=table.format,
            task=task,
        )
    places, note = assign_columns(table, ROLES, Data(data.train) if table.format == "squad" else data)
    start_at = next((i for i, name in enumerate(table.names) if name.lower() in STARTS and table.has_names), None)

    def row(record: Record) -> SpanRow:
        line, cells = record.line, record.cells
        return _row(
            table,
            line,
            text_in(table, line, cells[places["question"]], "question"),
            text_in(table, line, cells[places["passage"]], "passage"),
            _pairs(table, line, cells[places["answer"]], None if start_at is None else cells[start_at]),
        )

    columns = {role: table.names[i] for role, i in places.items()}
    used = frozenset(places.values()) | (frozenset() if start_at is None else {start_at})
    return RowReader(row, columns, used, ((places["question"],), (places["passage"],)), note)


def _pairs(table: Table, line: int, cell: Json, starts: Json) -> list[tuple[Json, Json]]:
    """Texts with where they start, None where that is not said; from any of the forms that answers come in."""
    if isinstance(cell, dict):
        cell, starts = cell.get("text"), cell.get("answer_start", cell.get("start", starts))
    if not is_filled(cell) or cell == []:
        return []
    texts = cell if isinstance(cell, list) else [cell]
    if all(isinstance(one, dict) for one in texts):
        return [(one.get("text"), one.get("answer_start", one.get("start"))) for one in texts]
    places = starts if isinstance(starts, list) else [starts] if is_filled(starts) else []
    if places and len(places) != len(texts):
        raise bad_row(
            table.path,
            line,
            f"{len(texts)} answers, but starts: {len(places)}",
            "Give one start to an answer",
            starts,
            kind="answers",
        )
    return list(zip(texts, places or [None] * len(texts), strict=True))


def _row(table: Table, line: int, question: str, passage: str, pairs: list[tuple[Json, Json]]) -> SpanRow:
    texts, starts = [], []
    for text, start in pairs:
        if not isinstance(text, str) or not text.strip():
            raise bad_row(
                table.path,
                line,
                f"an answer is {kind_of(text)}",
                "Give its text, or no answer at all",
                text,
                kind="answers",
            )
        texts.append(text)
        starts.append(_locate_answer(table, line, passage, text, start))
    asked = {"question": question, "passage": passage}
    return SpanRow(asked, tuple(texts), tuple(starts), str(table.path), line)


def _locate_answer(table: Table, line: int, passage: str, text: str, start: Json) -> int:
    """Where the answer stands; what is not said is looked for, and must be the only place."""
    if start is None:
        count = passage.count(text)
        if count != 1:
            way_out = (
                "Say which with the column start" if count else "An answer is a piece of its passage, letter by letter"
            )
            raise bad_row(
                table.path,
                line,
                f"the answer {quote_value(text)} stands {count} times in the passage",
                way_out,
                text,
                kind="answer_place",
                count=count,
            )
        return passage.index(text)
    try:
        at = int(start)
    except (TypeError, ValueError, OverflowError) as error:
        raise bad_row(
            table.path,
            line,
            f"the start is {quote_value(start)}",
            "Give the number of the answer's first character",
            start,
            kind="start",
        ) from error
    there = passage[at : at + len(text)] if at >= 0 else ""
    if there != text:
        raise bad_row(
            table.path,
            line,
            f"at character {at:,} of the passage stands {quote_value(there)}, not the answer {quote_value(text)}",
            "Correct the start (characters count from 0), or leave it out",
            start,
            kind="answer_place",
        )
    return at


def stored_columns(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The columns of a stored dataset."""
    return {
        "question": "question",
        "passage": "passage",
        "answers": "answers, any of them right; none: the passage does not say",
        "starts": "each answer's first character in the passage",
    }


def stored_cells(task: str, row: SpanRow) -> tuple[Json, ...]:
    return row.input["question"], row.input["passage"], list(row.answers), list(row.starts)


def stored_types(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The type of each column of a stored dataset."""
    return {"question": "text", "passage": "text", "answers": "texts", "starts": "integers"}


def stored_row(task: str, options: Mapping[str, Json], cells: Mapping[str, Json], file: str, line: int) -> SpanRow:
    asked = {"question": cells["question"], "passage": cells["passage"]}
    return SpanRow(asked, tuple(cells["answers"]), tuple(cells["starts"]), file, line)


def labels_of(task: str, rows: Iterable[SpanRow]) -> tuple[str, ...]:
    """What the head gives for every token; BadInput if no question has an answer."""
    if not any(row.answers for row in rows):
        raise BadInput(
            "No question has an answer, so there is nothing to learn. Add rows with answers", reason="no_answers"
        )
    return LABELS


def refuse_unknown(rows: Iterable[Row], labels: Sequence[str]) -> None:
    """Nothing: these rows have no labels."""


def options_of(task: str, rows: Sequence[Row]) -> dict[str, Json]:
    return {}
