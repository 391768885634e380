"""Reads texts alone, of any file or dataset: what they are labelled with is not looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import UNLABELLED, Data
from llmos.abi.row_id import fold_text
from llmos.abi.row_path import split_part
from llmos.data.cells import is_filled, text_in
from llmos.data.columns import choose_texts, find
from llmos.data.datasets.dataset_reader import described_in, open_dataset
from llmos.data.formats import lines, open_table
from llmos.data.reader import RowStream
from llmos.data.row import LabelRow, PairRow, Row, Rows, TextRow
from llmos.data.row_reader import RowReader
from llmos.data.splits import place_of
from llmos.data.table import Record, Table

LEARNED = ("train", UNLABELLED)  # of a dataset: the other splits are there to measure on
HELD_SHARE, LEAST_HELD, MOST_HELD = 0.05, 16, 1000
LEAST_TEXTS = 64  # three quarters of which are left to learn from

Texts = tuple[str, ...]  # one, or the two of a pair


@dataclass(frozen=True, slots=True)
class RawTexts:
    """Different texts in the order of their source; what was read, and what was left out."""

    texts: tuple[Texts, ...]
    rows: int
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        seen = hashlib.sha256()
        for one in self.texts:
            seen.update("\0".join(one).encode() + b"\n")
        return seen.hexdigest()


@dataclass(frozen=True, slots=True)
class TextSplits:
    """Texts to learn from, to choose the best epoch by, and to measure on."""

    train: tuple[Texts, ...]
    validation: tuple[Texts, ...]
    test: tuple[Texts, ...]


def read_texts(
    data: Data, folders: Mapping[str, str], *, pairs: bool = False, most: int | None = None, source: str | None = None
) -> RawTexts:
    """The different texts of `source` (by default data.train), each once; BadInput where there is none.

    Of a dataset, those of its rows to train on and of its unlabelled rows.
    """
    source = source or data.train
    if source in folders:
        rows, notes = _of_dataset(source, folders[source], pairs=pairs), ()
        return _different(rows, notes, most, source)
    stream = _open(source, data, pairs=pairs)
    found = _different((one for row in stream for one in _texts_of(row, pairs=pairs)), (), most, source)
    summary: Rows[Any] = stream.summary()  # Any: of rows that are not kept
    return replace(found, notes=tuple(summary.notes))


def split_texts(texts: Sequence[Texts], validation: Sequence[Texts], test: Sequence[Texts], source: str) -> TextSplits:
    """The texts without those held out: as given, else one in twenty each, the same ones of a file that has grown.

    BadInput where too few are left to learn from.
    """
    given = {_key(one) for one in (*validation, *test)}
    left = [one for one in texts if _key(one) not in given]
    count = max(LEAST_HELD, min(MOST_HELD, round(HELD_SHARE * len(left))))
    needed = LEAST_TEXTS if not (validation and test) else LEAST_TEXTS // 2
    if len(left) < needed:
        raise BadInput(
            f"{source} has {len(left):,} different texts, and {needed} is the least to learn from. Add texts",
            reason="too_few_texts",
            file=source,
            count=len(left),
            least=needed,
        )
    held: dict[str, Sequence[Texts]] = {"validation": validation, "test": test}
    for name in ("test", "validation"):
        if not held[name]:
            order = sorted(left, key=lambda one: place_of(name, _key(one)))
            chosen = {_key(one) for one in order[:count]}
            held[name] = [one for one in left if _key(one) in chosen]
            left = [one for one in left if _key(one) not in chosen]
    return TextSplits(tuple(left), tuple(held["validation"]), tuple(held["test"]))


def _key(texts: Texts) -> str:
    return fold_text(" | ".join(texts))


def _different(found: Iterator[Texts], notes: Sequence[str], most: int | None, source: str) -> RawTexts:
    kept: dict[str, Texts] = {}
    rows = 0
    for one in found:
        rows += 1
        kept.setdefault(_key(one), one)
        if most is not None and len(kept) == most:
            break
    if not kept:
        raise BadInput(f"{source} has no text. Give a file with a text in each row", reason="empty", file=source)
    return RawTexts(tuple(kept.values()), rows, tuple(notes))


def _of_dataset(ref: str, folder: str, *, pairs: bool) -> Iterator[Texts]:
    there = [split for split in LEARNED if (Path(folder) / f"{split}.parquet").exists()]
    for split in there:
        task, _ = described_in(Path(folder) / f"{split}.parquet")
        reader = open_dataset(Path(folder), task, {}, ref)
        for stored in reader.rows(split):
            yield from _texts_of(stored.row, pairs=pairs)


def _texts_of(row: Row, *, pairs: bool) -> Iterator[Texts]:
    """What a row has to read: its text, a prompt with its answer, or the two texts of a pair."""
    texts = [*row.texts, row.answer] if isinstance(row, TextRow) else row.texts
    filled = [text for text in texts if text.strip()]
    if pairs:
        if len(texts) != 2 or len(filled) != 2:
            raise BadInput(
                f"{row.file}, line {row.line:,}: a pair has two texts, and this row has {len(filled)}",
                key="pairs",
                file=row.file,
                line=row.line,
            )
        yield (filled[0], filled[1])
    elif isinstance(row, TextRow):
        yield ("\n".join(filled),)
    else:
        yield from ((text,) for text in filled)


def _open(source: str, data: Data, *, pairs: bool) -> RowStream[Any]:  # Any: texts, or pairs of them
    if data.format is None and Path(split_part(source)[0]).suffix.lower() == lines.SUFFIX:
        data = replace(data, format=lines.NAME)
    table = open_table(Path(source), data)
    if not table.sample and table.is_whole:
        raise BadInput(f"{source} has no rows. Give a file with a text in each", reason="empty", file=source)
    reader = _pair_reader(table, data) if pairs else _text_reader(table, data)
    return RowStream(table, reader, data.on_bad_row != "skip", skips_empty=True)


def _text_reader(table: Table, data: Data) -> RowReader[Any]:  # Any: as above
    is_known = table.format in ("conll", "conllu", "squad")  # words come first; of a question, its passage is read
    places, note = ((1 if table.format == "squad" else 0,), "") if is_known else _choose_places(table, data)

    def row(record: Record) -> LabelRow:
        text = " ".join(_plain(table, record, i) for i in places if is_filled(record.cells[i]))
        return LabelRow({"text": text}, (), str(table.path), record.line)

    names = {"text": ",".join(table.names[i] for i in places)}
    return RowReader(row, names, frozenset(places), (places,), note)


def _choose_places(table: Table, data: Data) -> tuple[tuple[int, ...], str]:
    """The columns of the text; that of a conversation where there is one and nothing else was said."""
    folded = [name.lower() for name in table.names]
    if data.text is None and "messages" in folded:
        return (folded.index("messages"),), ""
    return choose_texts(table, data.text, tagged=False)


def _pair_reader(table: Table, data: Data) -> RowReader[Any]:  # Any: as above
    first, second = (find(table, name.strip()) for name in str(data.text).split(","))

    def row(record: Record) -> PairRow:
        one, other = (_plain(table, record, i) for i in (first, second))
        return PairRow({"text": one, "other": other}, 1.0, str(table.path), record.line)

    names = {"text": table.names[first], "other": table.names[second]}
    return RowReader(row, names, frozenset((first, second)), ((first,), (second,)))


def _plain(table: Table, record: Record, at: int) -> str:
    """A cell as text: words are joined by spaces, the turns of a conversation by lines."""
    cell = record.cells[at]
    if isinstance(cell, (list, tuple)) and cell:
        if all(isinstance(one, str) for one in cell):
            cell = " ".join(cell)
        elif all(isinstance(one, Mapping) and isinstance(_content(one), str) for one in cell):
            cell = "\n".join(_content(one) for one in cell)
    return text_in(table, record.line, cell)


def _content(turn: Mapping[str, Json]) -> Json:
    return turn.get("content", turn.get("value"))
