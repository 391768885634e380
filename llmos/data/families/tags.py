"""Rows of the tags family: words with IOB2 tags, from CoNLL columns, token lists or character spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.cells import kind_of, text_in
from llmos.data.columns import choose
from llmos.data.conll import TAG, as_iob2, read_conll, scheme_of
from llmos.data.families.labels import refuse_kinds
from llmos.data.files import open_table
from llmos.data.row import Row, Rows, TagRow
from llmos.data.table import Table, bad_row
from llmos.tasks import task as task_of
from llmos.tasks.tag import OUTSIDE, Words, words_of


def read(task: str, file: Path, form: str, data: Data, options: dict[str, Json]) -> Rows[TagRow]:
    """Every sentence of the file; BadRow at the first that cannot be used."""
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
        columns, note = chosen.names_in(table), chosen.note
        cells = ((line, row[chosen.texts[0]], row[chosen.label]) for line, row in table.rows)
        found = list(_tagged_cells(table, task, cells))
    scheme = scheme_of(tags for _, _, tags in found)
    rows = tuple(TagRow(words, as_iob2(tags), str(file), line) for line, words, tags in found)
    return Rows(rows, str(file), form, columns, scheme, note=note)


def _tagged_cells(
    table: Table, task: str, cells: Iterator[tuple[int, Json, Json]]
) -> Iterator[tuple[int, dict[str, Json], list[str]]]:
    check = task_of(task).check
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


def _check_row(table: Table, line: int, value: Json, check: Any) -> Json:  # Any: a task's check, which takes any JSON
    try:
        return check(value)
    except LlmosError as error:
        raise bad_row(table.path, line, error.message, "Fill it in, or remove the row", value) from error


def stored_columns(task: str) -> dict[str, str]:
    """The columns of a stored dataset."""
    return {"tokens": "words", "tags": "IOB2 tags"}


def stored_cells(task: str, row: TagRow) -> tuple[Json, ...]:
    return row.input["tokens"], row.tags


def labels_of(task: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """O first, then B- and I- of every kind of entity by letter; BadInput if no row has an entity."""
    kinds = {kind for row in rows for kind in row.kinds} - {OUTSIDE}
    if not kinds:
        raise BadInput("No row has a tag other than O: there is nothing to learn. Give rows with tagged words")
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI"))


def refuse_unknown(rows: Iterable[Row], labels: Sequence[str]) -> None:
    """BadRow at the first kind of entity that training has not seen."""
    kinds = {label.partition("-")[2] for label in labels} - {""}
    refuse_kinds(rows, kinds | {OUTSIDE}, sorted(kinds))


def options_of(task: str, rows: Sequence[Row]) -> dict[str, Json]:
    return {}
