"""Rows: labelled texts out of files, each checked, each knowing its file and line. It does not split or count them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.recipe import Data
from llmos.finetuning.columns import choose, is_known, is_nearly_known
from llmos.finetuning.conll import TAG, as_iob2, read_conll, scheme_of
from llmos.finetuning.table import Table, bad_row, read_delimited, read_jsonl, read_parquet
from llmos.tasks import task as task_of
from llmos.tasks.tag import Words, words_of

Json = Any  # Any: a cell, or an input in its task's normal form

FORMATS = ("csv", "tsv", "jsonl", "parquet", "conll")
SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".conll": "conll", ".bio": "conll", ".iob": "conll",
}  # fmt: skip
MAX_TEXT_CHARS = 200_000
MANY = "|"  # between the labels of one cell, in multi-label files that have only text


@dataclass(frozen=True, slots=True)
class Row:
    """One example: the task's checked input; its label, its labels, or the IOB2 tags of its words."""

    input: Json
    label: str | tuple[str, ...]
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one file, and how it was read."""

    rows: tuple[Row, ...]
    path: str
    format: str
    columns: dict[str, str]
    scheme: str = ""
    skipped: int = 0  # rows without a text, where the option skip_empty allows it
    note: str = ""  # which column was taken as what, where no name said it


def read_rows(path: str, data: Data, task: str, options: dict[str, Json]) -> Rows:
    """Every row of the file for this task; BadRow at the first that cannot be used."""
    file = Path(path)
    form = data.format or format_of(file)
    if task == "tag":
        return _tagged(file, form, data)
    if form == "conll":
        raise BadInput(f"{file.name} has CoNLL columns, which are for the task tag, not {task}. Name another format")
    table = _table(file, form, data)
    columns = choose(table, data.text, data.label, tagged=False)
    many = bool(options.get("multi_label", False))
    skip = bool(options.get("skip_empty", False))
    filled = [one for one in table.rows if not skip or any(_is_filled(one[1][i]) for i in columns.texts)]
    rows = tuple(
        Row(
            {"text": " ".join(_text(table, line, cells[i]) for i in columns.texts)},
            _labels(table, line, cells[columns.label]) if many else _label(table, line, cells[columns.label]),
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


def format_of(path: Path) -> str:
    """By the name's ending, else by what the first line looks like."""
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    try:
        with path.open("rb") as file:
            lines = [line.decode("utf-8", "replace").strip() for line in file.read(65536).split(b"\n")]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Give the path of a file that is there") from error
    filled = [line for line in lines[:200] if line and not line.startswith("-DOCSTART-")]
    if filled and filled[0].startswith("{"):
        return "jsonl"
    if filled and filled[0].startswith("PAR1"):
        return "parquet"
    if len(filled) > 1 and all(TAG.fullmatch(line.split()[-1]) for line in filled[:-1]):
        return "conll"
    if filled and "\t" in filled[0]:
        return "tsv"
    if filled and "," in filled[0]:
        return "csv"
    raise BadInput(f"{path}: its format cannot be told from its name or its start. Name it: {', '.join(FORMATS)}")


def _table(path: Path, form: str, data: Data) -> Table:
    if form in ("csv", "tsv"):
        told = {name.lower() for name in (data.text, data.label) if name and not name.isdecimal()}
        return read_delimited(
            path,
            "," if form == "csv" else "\t",
            data.has_header,
            lambda cell: is_known(cell) or cell.lower() in told,
            is_nearly_known,
        )
    if form == "jsonl":
        return read_jsonl(path)
    if form == "parquet":
        return read_parquet(path)
    raise BadInput(f"No format {form!r}. There are: {', '.join(FORMATS)}")


def _checked(table: Table, line: int, value: Json, check: Any) -> Json:  # Any: a task's check, which takes any JSON
    try:
        return check(value)
    except LlmosError as error:
        raise bad_row(table.path, line, error.message, "Fill it in, or remove the row", value) from error


def _is_filled(cell: Json) -> bool:
    return cell is not None and bool(str(cell).strip())


def _text(table: Table, line: int, cell: Json) -> str:
    if not isinstance(cell, str) or not cell.strip():
        way_out = "Fill it in, remove the row, or set the option skip_empty"
        raise bad_row(table.path, line, f"the text is {_kind(cell)}", way_out, cell)
    if len(cell) > MAX_TEXT_CHARS:
        raise bad_row(
            table.path,
            line,
            f"a text of {len(cell):,} characters, and {MAX_TEXT_CHARS:,} is the most",
            "Cut it into several rows, or check for a quote that is not closed",
            cell,
        )
    return cell


def _label(table: Table, line: int, cell: Json) -> str:
    if isinstance(cell, float) and math.isfinite(cell) and cell == int(cell):
        cell = int(cell)
    if isinstance(cell, (bool, int, str)) and str(cell).strip():
        return str(cell).strip()
    raise bad_row(table.path, line, f"the label is {_kind(cell)}", "Give a text or a whole number", cell)


def _labels(table: Table, line: int, cell: Json) -> tuple[str, ...]:
    if isinstance(cell, str):
        cell = [part for part in cell.split(MANY) if part.strip()]
    if cell is None:
        cell = []
    if not isinstance(cell, (list, tuple)):
        raise bad_row(table.path, line, f"the labels are {_kind(cell)}", f"Give a list, or text with {MANY}", cell)
    return tuple(dict.fromkeys(_label(table, line, one) for one in cell))


def _refuse_nan(table: Table, rows: Sequence[Row]) -> None:
    """In a column of numbers, nan and inf are no labels; among words, they may be."""
    odd = [row for row in rows if isinstance(row.label, str) and row.label.lower() in ("nan", "inf", "-inf")]
    if odd and all(isinstance(row.label, str) and _is_number(row.label) for row in rows):
        label = odd[0].label
        raise bad_row(table.path, odd[0].line, f"the label is {label}, not a number", "Correct or remove it", label)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _kind(cell: Json) -> str:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "empty"
    if isinstance(cell, float) and math.isnan(cell):
        return "NaN"
    return f"of the wrong kind ({type(cell).__name__})"


def _tagged(file: Path, form: str, data: Data) -> Rows:
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
        table = _table(file, form, data)
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
            words = words_of(check({"text": _text(table, line, text)}))
            tokens = [words.text[start:end] for start, end in words.offsets]
            yield line, {"tokens": tokens}, _tags_of_spans(table, line, words, label)
            continue
        data = _checked(table, line, {"tokens": text}, check)
        if not isinstance(label, list) or len(label) != len(data["tokens"]):
            size = len(label) if isinstance(label, list) else _kind(label)
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
