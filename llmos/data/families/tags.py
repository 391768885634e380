"""Rows of the tags family: words with IOB2 tags, from CoNLL columns, token lists or character spans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.cells import kind_of, text_in
from llmos.data.columns import Columns, choose
from llmos.data.families.labels import refuse_kinds
from llmos.data.formats.conll import TAG, SchemeCounts, as_iob2
from llmos.data.row import Row, TagRow
from llmos.data.row_reader import RowReader
from llmos.data.table import Record, Table, bad_row
from llmos.tasks import task as task_of
from llmos.tasks.tag import OUTSIDE, Words, words_of


def column_names(task: str) -> frozenset[str]:
    """Names of columns besides those that every task knows."""
    return frozenset()


def row_reader(task: str, table: Table, data: Data, options: dict[str, Json]) -> RowReader[TagRow]:
    """Reads words and their tags, or a text and its spans; BadInput where the table has cells of one value only."""
    if table.format in ("csv", "tsv"):
        raise BadInput(
            f"{table.path.name}: tags cannot be read from {table.format}. Give CoNLL columns (format conll), or JSON "
            'lines with {"tokens": [...], "tags": [...]} or {"text": "...", "spans": [{"start", "end", "label"}]}',
            file=str(table.path),
            format=table.format,
            task=task,
        )
    is_conll = table.format == "conll"
    chosen = Columns((0,), 1) if is_conll else choose(table, data.text, data.label, tagged=True)
    columns = {"text": data.text or "0", "label": data.label or "-1"} if is_conll else chosen.names_in(table)
    counts = SchemeCounts()
    check = task_of(task).check

    def row(record: Record) -> TagRow:
        line, text, label = record.line, record.cells[chosen.texts[0]], record.cells[chosen.label]
        if isinstance(text, str):
            words = words_of(check({"text": text_in(table, line, text)}))
            tokens, tags = [words.text[a:b] for a, b in words.offsets], _tags_of_spans(table, line, words, label)
        else:
            tokens = _check_row(table, line, {"tokens": text}, check)["tokens"]
            tags = _tags_in(table, line, label, len(tokens))
        counts.add(tags)
        return TagRow({"tokens": tokens}, as_iob2(tags), str(table.path), line)

    used = frozenset((*chosen.texts, chosen.label))
    return RowReader(row, columns, used, (chosen.texts,), chosen.note, scheme=lambda: counts.scheme)


def _tags_in(table: Table, line: int, label: Json, count: int) -> list[str]:
    """A tag for each of this many words."""
    if not isinstance(label, list) or len(label) != count:
        size = len(label) if isinstance(label, list) else kind_of(label)
        what = f"{count} tokens, but tags: {size}"
        raise bad_row(table.path, line, what, "Give one tag per token", label, kind="tag_count")
    for tag in label:
        if not isinstance(tag, str) or not TAG.fullmatch(tag):
            way_out = "Tags are O, B-PER, I-PER and the like"
            raise bad_row(table.path, line, f"{tag!r} is no tag", way_out, tag, kind="tag")
    return label


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
                kind="span_fields",
            ) from error
        inside = [i for i, (a, b) in enumerate(words.offsets) if a < end and b > start]
        if not (0 <= start < end <= len(words.text)) or not inside or any(tags[i] != "O" for i in inside):
            what = "a span is outside of its text, or on another one"
            raise bad_row(table.path, line, what, "Correct its start and end", span, kind="span_place")
        for nth, i in enumerate(inside):
            tags[i] = f"{'I' if nth else 'B'}-{label}"
    return tags


def _check_row(table: Table, line: int, value: Json, check: Any) -> Json:  # Any: a task's check, which takes any JSON
    try:
        return check(value)
    except LlmosError as error:
        raise bad_row(table.path, line, error.message, "Fill it in, or remove the row", value, kind="input") from error


def stored_columns(task: str) -> dict[str, str]:
    """The columns of a stored dataset."""
    return {"tokens": "words", "tags": "IOB2 tags"}


def stored_cells(task: str, row: TagRow) -> tuple[Json, ...]:
    return row.input["tokens"], row.tags


def labels_of(task: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """O first, then B- and I- of every kind of entity by letter; BadInput if no row has an entity."""
    kinds = {kind for row in rows for kind in row.kinds} - {OUTSIDE}
    if not kinds:
        raise BadInput(
            "No row has a tag other than O: there is nothing to learn. Give rows with tagged words", reason="no_tags"
        )
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI"))


def refuse_unknown(rows: Iterable[Row], labels: Sequence[str]) -> None:
    """BadRow at the first kind of entity that training has not seen."""
    kinds = {label.partition("-")[2] for label in labels} - {""}
    refuse_kinds(rows, kinds | {OUTSIDE}, sorted(kinds))


def options_of(task: str, rows: Sequence[Row]) -> dict[str, Json]:
    return {}
