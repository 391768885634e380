"""Rows of the tags family: words with IOB2 tags, from CoNLL columns, token lists or character spans."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.abi.task import Family, tasks_in
from llmos.data.cells import kind_of, text_in
from llmos.data.char_spans import REFUSE, spans_in, tags_of, without_overlaps
from llmos.data.columns import Columns, choose, choose_texts, first_of
from llmos.data.families.labels import refuse_kinds
from llmos.data.formats.conll import TAG, SchemeCounts, as_iob2
from llmos.data.review import review_of
from llmos.data.row import Row, TagRow
from llmos.data.row_reader import RowReader
from llmos.data.table import Record, Table, bad_row
from llmos.tasks import task as task_of
from llmos.tasks.tag import OUTSIDE, words_of

STORED = {
    "tokens": "words",
    "tags": "IOB2 tags",
    "text": "the text, where it came as one",
    "spans": "its labelled characters as JSON: [start, end, label]",
}


def column_names(task: str) -> frozenset[str]:
    """Names of columns besides those that every task knows."""
    return frozenset()


def plain_tasks(table: Table) -> tuple[str, ...]:
    """All of the family where words have tags, or a text has spans."""
    names = [name.lower() for name in table.names]
    marked = first_of(names, ("ner_tags", "tags", "spans", "entities"))
    has_lists = marked is not None and any(isinstance(cell, list) for cell in table.column(marked))
    is_tagged = has_lists and first_of(names, ("tokens", "words", "text")) is not None
    return tasks_in(Family.TAGS) if is_tagged or table.format in ("conll", "conllu") else ()


def example(task: str) -> str:
    """A row as JSON, for messages."""
    return '{"tokens": ["Ada", "lives"], "tags": ["B-PER", "O"]}'


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
    is_conll = table.format in ("conll", "conllu")
    chosen = Columns((0,), 1) if is_conll else choose(table, data.text, data.label, tagged=True)
    columns = {"text": data.text or "0", "label": data.label or "-1"} if is_conll else chosen.names_in(table)
    scheme, counts = SchemeCounts(), Counter[str]()
    policy = str(options.get("overlaps", REFUSE))
    check = task_of(task).check

    def row(record: Record) -> TagRow:
        line, text, label = record.line, record.cells[chosen.texts[0]], record.cells[chosen.label]
        if isinstance(text, str):
            words = words_of(check({"text": text_in(table, line, text)}))
            spans = spans_in(table, line, words.text, label, counts)
            spans = without_overlaps(table, line, spans, words.offsets, policy, counts)
            tags = tags_of(spans, words.offsets, counts)
            places = tuple((span.start, span.end, span.label) for span in spans)
            tokens = [words.text[a:b] for a, b in words.offsets]
            scheme.add(tags)
            return TagRow({"tokens": tokens}, tuple(tags), str(table.path), line, words.text, places)
        tokens = _check_row(table, line, {"tokens": text}, check)["tokens"]
        tags = _tags_in(table, line, label, len(tokens))
        scheme.add(tags)
        return TagRow({"tokens": tokens}, as_iob2(tags), str(table.path), line)

    used = frozenset((*chosen.texts, chosen.label))
    return RowReader(
        row,
        columns,
        used,
        (chosen.texts,),
        chosen.note,
        scheme=lambda: scheme.scheme,
        review=review_of(table, used),
        counts=counts,
    )


def input_reader(task: str, table: Table, data: Data) -> RowReader[TagRow]:
    """Reads words, or texts, alone; tags and spans stay beside them."""
    is_conll = table.format in ("conll", "conllu")
    texts, note = ((0,), "") if is_conll else choose_texts(table, data.text, tagged=True)
    check = task_of(task).check

    def row(record: Record) -> TagRow:
        line, text = record.line, record.cells[texts[0]]
        if isinstance(text, str):
            words = words_of(check({"text": text_in(table, line, text)}))
            tokens = [words.text[a:b] for a, b in words.offsets]
            return TagRow({"tokens": tokens}, (), str(table.path), line, words.text, ())
        tokens = _check_row(table, line, {"tokens": text}, check)["tokens"]
        return TagRow({"tokens": tokens}, (), str(table.path), line)

    used = frozenset(texts)
    names = {"text": table.names[texts[0]]}
    return RowReader(row, names, used, (texts,), note, review=review_of(table, used))


def _tags_in(table: Table, line: int, label: Json, count: int) -> list[str]:
    """A tag for each of this many words."""
    if not isinstance(label, list) or len(label) != count:
        size = len(label) if isinstance(label, list) else kind_of(label)
        what = f"{count} tokens, but tags: {size}"
        raise bad_row(table.path, line, what, "Give one tag per token", label, kind="tag_count")
    for tag in label:
        if not isinstance(tag, str) or not TAG.fullmatch(tag):
            named = " Say what the numbers are called with the option class_names: O,B-PER,I-PER"
            way_out = "Tags are O, B-PER, I-PER and the like" + (f".{named}" if isinstance(tag, int) else "")
            raise bad_row(table.path, line, f"{tag!r} is no tag", way_out, tag, kind="tag")
    return label


def _check_row(table: Table, line: int, value: Json, check: Any) -> Json:  # Any: a task's check, which takes any JSON
    try:
        return check(value)
    except LlmosError as error:
        raise bad_row(table.path, line, error.message, "Fill it in, or remove the row", value, kind="input") from error


def stored_columns(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The columns of a stored dataset."""
    return STORED


def stored_cells(task: str, row: TagRow) -> tuple[Json, ...]:
    spans = None if row.spans is None else json.dumps(row.spans, ensure_ascii=False)
    return row.input["tokens"], row.tags, row.text, spans


def stored_types(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """The type of each column of a stored dataset."""
    return {"tokens": "texts", "tags": "texts", "text": "text", "spans": "text"}


def stored_row(task: str, options: Mapping[str, Json], cells: Mapping[str, Json], file: str, line: int) -> TagRow:
    text = cells.get("text")  # of versions that were written before rows had spans, there is none
    spans = None if text is None else tuple((s, e, label) for s, e, label in json.loads(cells["spans"]))
    return TagRow({"tokens": list(cells["tokens"])}, tuple(cells["tags"]), file, line, text, spans)


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
