"""Rows of the labels family: a text and its label, or its labels where a text may have many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.cells import is_filled, is_number, label_in, labels_in, text_in
from llmos.data.columns import choose
from llmos.data.files import open_table
from llmos.data.row import LabelRow, Row, Rows
from llmos.data.table import Table, bad_row
from llmos.tasks.text import quote_value

OTHERS = {
    "conll": "CoNLL columns, which are for the task tag",
    "squad": "questions, which are for the task answer",
}


def read(task: str, file: Path, form: str, data: Data, options: dict[str, Json]) -> Rows[LabelRow]:
    """Every row of the file; BadRow at the first that lacks a text or a label."""
    if form in OTHERS:
        raise BadInput(f"{file.name} has {OTHERS[form]}, not {task}. Name another format")
    table = open_table(file, form, data)
    chosen = choose(table, data.text, data.label, tagged=False)
    many = bool(options.get("multi_label", False))
    skip = bool(options.get("skip_empty", False))
    filled = [one for one in table.rows if not skip or any(is_filled(one[1][i]) for i in chosen.texts)]
    rows = tuple(
        LabelRow(
            {"text": " ".join(text_in(table, line, cells[i]) for i in chosen.texts)},
            _labels_in(table, line, cells[chosen.label], many=many),
            str(file),
            line,
            many,
        )
        for line, cells in filled
    )
    if not rows:
        raise bad_row(file, 1, "every text is empty", "It needs at least one row of text and label")
    if not many:
        _refuse_nan(table, rows)
    return Rows(rows, str(file), form, chosen.names_in(table), skipped=len(table.rows) - len(rows), note=chosen.note)


def _labels_in(table: Table, line: int, cell: Json, *, many: bool) -> tuple[str, ...]:
    return labels_in(table, line, cell) if many else (label_in(table, line, cell),)


def _refuse_nan(table: Table, rows: Sequence[LabelRow]) -> None:
    """In a column of numbers, nan and inf are no labels; among words, they may be."""
    odd = [row for row in rows if row.labels[0].lower() in ("nan", "inf", "-inf")]
    if odd and all(is_number(row.labels[0]) for row in rows):
        (label,) = odd[0].labels
        raise bad_row(table.path, odd[0].line, f"the label is {label}, not a number", "Correct or remove it", label)


def stored_columns(task: str) -> dict[str, str]:
    """The columns of a stored dataset."""
    return {"text": "text", "label": "label"}


def stored_cells(task: str, row: LabelRow) -> tuple[Json, ...]:
    return row.input["text"], row.column


def labels_of(task: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """Numbers by size, words by letter; BadInput if there are fewer than two."""
    kinds = {kind for row in rows for kind in row.kinds}
    if len(kinds) < 2:
        only = ", ".join(kinds) or "none"
        raise BadInput(f"There is only one label ({only}), so nothing to tell apart. Add rows of another")
    if all(kind.removeprefix("-").isdecimal() for kind in kinds):
        return tuple(sorted(kinds, key=int))
    return tuple(sorted(kinds))


def refuse_unknown(rows: Iterable[Row], labels: Sequence[str]) -> None:
    """BadRow at the first label that training has not seen: a model cannot be right about it."""
    refuse_kinds(rows, set(labels), sorted(set(labels)))


def refuse_kinds(rows: Iterable[Row], known: set[str], shown: Sequence[str]) -> None:
    for row in rows:
        for kind in row.kinds - known:
            raise bad_row(
                Path(row.file),
                row.line,
                f"the label {kind!r} is in no training row",
                f"Known are: {quote_value(list(shown))}. Correct it, or add rows of it to the training data",
                kind,
            )


def options_of(task: str, rows: Sequence[Row]) -> dict[str, Json]:
    return {}
