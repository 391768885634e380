"""Reads labelled rows of any task from files. It does not split or count them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.cells import is_filled, is_number, kind_of, label_in, labels_in, text_in
from llmos.data.columns import choose
from llmos.data.conll import TAG, as_iob2, read_conll, scheme_of
from llmos.data.files import format_of, open_table
from llmos.data.pair_rows import PAIRED, read_pairs
from llmos.data.row import Row, Rows
from llmos.data.squad_rows import read_questions
from llmos.data.table import Table, bad_row
from llmos.data.text_rows import read_written
from llmos.tasks import GENERATIVE
from llmos.tasks import task as task_of
from llmos.tasks.tag import Words, words_of


def read_rows(path: str, data: Data, task: str, options: dict[str, Json]) -> Rows:
    """Every row of the file for this task; BadRow at the first that cannot be used."""
    file = Path(path)
    form = data.format or format_of(file)
    if task == "tag":
        return _tag_rows(file, form, data)
    if task in PAIRED:
        return read_pairs(file, form, data, task)
    if task == "answer":
        return read_questions(file, form, data)
    if task in GENERATIVE:
        return read_written(file, form, data, task)
    if form in ("conll", "squad"):
        of = {"conll": "CoNLL columns, which are for the task tag", "squad": "questions, which are for the task answer"}
        raise BadInput(f"{file.name} has {of[form]}, not {task}. Name another format")
    table = open_table(file, form, data)
    columns = choose(table, data.text, data.label, tagged=False)
    many = bool(options.get("multi_label", False))
    skip = bool(options.get("skip_empty", False))
    filled = [one for one in table.rows if not skip or any(is_filled(one[1][i]) for i in columns.texts)]
    rows = tuple(
        Row(
            {"text": " ".join(text_in(table, line, cells[i]) for i in columns.texts)},
            labels_in(table, line, cells[columns.label]) if many else label_in(table, line, cells[columns.label]),
            str(file),
            line,
        )
        for line, cells in filled
    )
    if not rows:
        raise bad_row(file, 1, "every text is empty", "It needs at least one row of text and label")
    if not many:
        _refuse_nan(table, rows)
    return Rows(rows, str(file), form, columns.named(table), skipped=len(table.rows) - len(rows), note=columns.note)


def _check_row(table: Table, line: int, value: Json, check: Any) -> Json:  # Any: a task's check, which takes any JSON
    try:
        return check(value)
    except LlmosError as error:
        raise bad_row(table.path, line, error.message, "Fill it in, or remove the row", value) from error


def _refuse_nan(table: Table, rows: Sequence[Row]) -> None:
    """In a column of numbers, nan and inf are no labels; among words, they may be."""
    odd = [row for row in rows if isinstance(row.label, str) and row.label.lower() in ("nan", "inf", "-inf")]
    if odd and all(isinstance(row.label, str) and is_number(row.label) for row in rows):
        label = odd[0].label
        raise bad_row(table.path, odd[0].line, f"the label is {label}, not a number", "Correct or remove it", label)


def _tag_rows(file: Path, form: str, data: Data) -> Rows:
    if form in ("csv", "tsv"):
        raise BadInput(
            f"{file.name}: tags cannot be read from {form}. Give CoNLL columns (format conll), or JSON lines with "
            '{"tokens": [...], "tags": [...]} or {"text": "...", "spans": [{"start", "end", "label"}]}'
        )
    if form == "conll":
        sentences = read_conll(file, data.text, data.label)
        columns, note = {"text": data.text or "0", "label": data.label or "-1"}, ""
        found = [(line, {"tokens": words}, tags) for line, words, tags in sentences]
    else:
        table = open_table(file, form, data)
        chosen = choose(table, data.text, data.label, tagged=True)
        columns, note = chosen.named(table), chosen.note
        cells = ((line, row[chosen.texts[0]], row[chosen.label]) for line, row in table.rows)
        found = list(_tagged_cells(table, cells))
    scheme = scheme_of(tags for _, _, tags in found)
    rows = tuple(Row(words, as_iob2(tags), str(file), line) for line, words, tags in found)
    return Rows(rows, str(file), form, columns, scheme, note=note)


def _tagged_cells(
    table: Table, cells: Iterator[tuple[int, Json, Json]]
) -> Iterator[tuple[int, dict[str, Json], list[str]]]:
    check = task_of("tag").check
    for line, text, label in cells:
        if isinstance(text, str):
            words = words_of(check({"text": text_in(table, line, text)}))
            tokens = [words.text[start:end] for start, end in words.offsets]
            yield line, {"tokens": tokens}, _tags_of_spans(table, line, words, label)
            continue
        data = _check_row(table, line, {"tokens": text}, check)
        if not isinstance(label, list) or len(label) != len(data["tokens"]):
            size = len(label) if isinstance(label, list) else kind_of(label)
            raise bad_row(
                table.path, line, f"{len(data['tokens'])} tokens, but tags: {size}", "Give one tag per token", label
            )
        for tag in label:
            if not isinstance(tag, str) or not TAG.fullmatch(tag):
                raise bad_row(table.path, line, f"{tag!r} is no tag", "Tags are O, B-PER, I-PER and the like", tag)
        yield line, data, label


def _tags_of_spans(table: Table, line: int, words: Words, spans: Json) -> list[str]:
    """Tags of the text's words; a word that a span touches belongs to it."""
    tags = ["O"] * len(words.offsets)
    for span in spans if isinstance(spans, list) else [spans]:
        try:
            start, end, label = int(span["start"]), int(span["end"]), str(span["label"])
        except (KeyError, TypeError, ValueError) as error:
            raise bad_row(
                table.path,
                line,
                "a span lacks start, end or label",
                'Give {"start": 0, "end": 3, "label": "PER"}',
                span,
            ) from error
        inside = [i for i, (a, b) in enumerate(words.offsets) if a < end and b > start]
        if not (0 <= start < end <= len(words.text)) or not inside or any(tags[i] != "O" for i in inside):
            raise bad_row(
                table.path, line, "a span is outside of its text, or on another one", "Correct its start and end", span
            )
        for nth, i in enumerate(inside):
            tags[i] = f"{'I' if nth else 'B'}-{label}"
    return tags
