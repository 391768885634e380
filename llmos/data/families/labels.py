"""Rows of the labels family: a text and its label, or its labels where a text may have many."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.abi.task import Family, tasks_in
from llmos.data.cells import is_number, label_in, labels_in, text_in
from llmos.data.columns import LABEL_NAMES, TEXT_NAMES, choose, choose_texts, first_of
from llmos.data.label_cells import LabelCells, label_cells_of
from llmos.data.one_hot import OneHotColumns, one_hot_columns
from llmos.data.review import review_of
from llmos.data.row import LabelRow, Row
from llmos.data.row_reader import RowReader
from llmos.data.table import Record, Table, bad_row
from llmos.tasks.text import quote_value

OTHERS = {
    "conll": "CoNLL columns, which are for the task tag",
    "conllu": "CoNLL-U, which is for the task tag",
    "squad": "questions, which are for the task answer",
}

JOINED = "labels joined with others that are the same, written in another way"
WHOLE = re.compile(r"-?\d+\.0+")


def column_names(task: str) -> frozenset[str]:
    """Names of columns besides those that every task knows."""
    return frozenset()


def plain_tasks(table: Table) -> tuple[str, ...]:
    """All of the family where a text stands beside labels that come again and again."""
    if table.format == "fasttext":
        return tasks_in(Family.LABELS)
    names = [name.lower() for name in table.names]
    text, label = first_of(names, TEXT_NAMES[:11]), first_of(names, LABEL_NAMES[:8])
    if text is None or label is None or text == label:
        return ()
    cells = [cell for cell in table.column(label) if cell not in (None, "")]
    kinds = {str(cell) for cell in cells}
    is_plain = all(isinstance(cell, (str, int)) for cell in cells) and 1 < len(kinds) <= max(2, len(cells) // 2)
    return tasks_in(Family.LABELS) if is_plain else ()


def example(task: str) -> str:
    """A row as JSON, for messages."""
    return '{"text": "...", "label": "..."}'


def row_reader(task: str, table: Table, data: Data, options: dict[str, Json]) -> RowReader[LabelRow]:
    """Reads a text and its label, or its labels; BadInput where the table holds something else."""
    if table.format in OTHERS:
        raise BadInput(
            f"{table.path.name} has {OTHERS[table.format]}, not {task}. Name another format",
            file=str(table.path),
            format=table.format,
            task=task,
        )
    many = bool(options.get("multi_label", False))
    hot = one_hot_columns(table, data)
    if hot is not None:
        return _one_hot_reader(table, hot, many=many)
    chosen = choose(table, data.text, data.label, tagged=False)
    sample = table.column(chosen.label)
    where = f"{table.path.name}: column {table.names[chosen.label]!r}"
    cells = label_cells_of(sample, options.get("label_separator"), where) if many else LabelCells()
    spelling = LabelSpelling(are_numbers=bool(sample) and all(map(_is_numeric, sample)))

    def row(record: Record) -> LabelRow:
        text = " ".join(text_in(table, record.line, record.cells[i]) for i in chosen.texts)
        cell = record.cells[chosen.label]
        labels = labels_in(table, record.line, cells.split(cell)) if many else (label_in(table, record.line, cell),)
        return LabelRow({"text": text}, spelling.join(labels), str(table.path), record.line, many)

    used = frozenset((*chosen.texts, chosen.label))
    check = (lambda rows: None) if many else (lambda rows: _refuse_nan(table, rows))
    return RowReader(
        row,
        chosen.names_in(table),
        used,
        (chosen.texts,),
        " ".join(filter(None, (chosen.note, cells.note))),
        check,
        review=review_of(table, used),
        counts=spelling.counts,
    )


def input_reader(task: str, table: Table, data: Data) -> RowReader[LabelRow]:
    """Reads texts alone; a column of labels stays beside them."""
    texts, note = choose_texts(table, data.text, tagged=False)

    def row(record: Record) -> LabelRow:
        text = " ".join(text_in(table, record.line, record.cells[i]) for i in texts)
        return LabelRow({"text": text}, (), str(table.path), record.line)

    used = frozenset(texts)
    names = {"text": ",".join(table.names[i] for i in texts)}
    return RowReader(row, names, used, (texts,), note, review=review_of(table, used))


def _one_hot_reader(table: Table, hot: OneHotColumns, *, many: bool) -> RowReader[LabelRow]:
    def row(record: Record) -> LabelRow:
        text = text_in(table, record.line, record.cells[hot.text])
        labels = hot.labels_of(table, record, many=many)
        return LabelRow({"text": text}, labels, str(table.path), record.line, many)

    used = frozenset((hot.text, *hot.labels))
    return RowReader(row, hot.names_in(table), used, ((hot.text,),), hot.note, review=review_of(table, used))


def _is_numeric(cell: Json) -> bool:
    return not isinstance(cell, bool) and is_number(str(cell))


@dataclass(slots=True)
class LabelSpelling:
    """Labels that are one however they are written: composed letters, and whole numbers with and without `.0`.

    The first way of writing stands for all. Labels that differ by case alone stay apart, and are noted.
    """

    are_numbers: bool  # in the whole column, so that 1.0 is 1
    counts: Counter[str] = field(default_factory=Counter)
    _by_key: dict[str, str] = field(default_factory=dict)
    _by_case: dict[str, str] = field(default_factory=dict)

    def join(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(self._spell, labels)))

    def _spell(self, label: str) -> str:
        key = unicodedata.normalize("NFC", label)
        if self.are_numbers and WHOLE.fullmatch(key):
            key = key.partition(".")[0]
        spelled = self._by_key.setdefault(key, label)
        self.counts[JOINED] += spelled != label
        first = self._by_case.setdefault(key.casefold(), spelled)
        if first != spelled:
            self.counts[f"labels {spelled!r}, which differ from {first!r} by case alone: they stay two"] += 1
        return spelled


def _refuse_nan(table: Table, rows: Sequence[LabelRow]) -> None:
    """In a column of numbers, nan and inf are no labels; among words, they may be."""
    odd = [row for row in rows if row.labels[0].lower() in ("nan", "inf", "-inf")]
    if odd and all(is_number(row.labels[0]) for row in rows):
        (label,) = odd[0].labels
        what = f"the label is {label}, not a number"
        raise bad_row(table.path, odd[0].line, what, "Correct or remove it", label, kind="label")


def stored_columns(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The columns of a stored dataset."""
    return {"text": "text", "label": "label"}


def stored_cells(task: str, row: LabelRow) -> tuple[Json, ...]:
    return row.input["text"], row.column


def stored_types(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The type of each column of a stored dataset."""
    return {"text": "text", "label": "texts" if options.get("multi_label") else "text"}


def stored_row(task: str, options: Mapping[str, Json], cells: Mapping[str, Json], file: str, line: int) -> LabelRow:
    label = cells["label"]
    labels = tuple(label) if isinstance(label, list) else () if label is None else (label,)
    return LabelRow({"text": cells["text"]}, labels, file, line, bool(options.get("multi_label")))


def labels_of(task: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """Numbers by size, words by letter; BadInput if there are fewer than two."""
    kinds = {kind for row in rows for kind in row.kinds}
    if len(kinds) < 2:
        only = ", ".join(kinds) or "none"
        raise BadInput(
            f"There is only one label ({only}), so nothing to tell apart. Add rows of another", reason="one_label"
        )
    if all(kind.removeprefix("-").isdecimal() for kind in kinds):
        return tuple(sorted(kinds, key=int))
    return tuple(sorted(kinds))


def refuse_unknown(rows: Iterable[Row], labels: Sequence[str]) -> None:
    """BadRow at the first label that training has not seen: a model cannot be right about it."""
    refuse_kinds(rows, set(labels), sorted(set(labels)))


def refuse_kinds(rows: Iterable[Row], known: set[str], shown: Sequence[str]) -> None:
    for row in rows:
        for kind in row.kinds - known:
            is_number = kind.isdecimal() and not any(label.isdecimal() for label in known)
            names = (
                ". If it is the number of a class, name the classes with the option class_names" if is_number else ""
            )
            raise bad_row(
                Path(row.file),
                row.line,
                f"the label {kind!r} is in no training row",
                f"Known are: {quote_value(list(shown))}. Correct it, or add rows of it to the training data{names}",
                kind,
                kind="unknown_label",
                expected=list(shown),
            )


def options_of(task: str, rows: Sequence[Row]) -> dict[str, Json]:
    return {}
