"""The public sets that models are trained on: their files and columns, and rows of them written for the daemon."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.stop import Stop
from llmos.abi.recipe import Data
from llmos.data.reader import read_rows
from llmos.data.row import LabelRow, TagRow

CUT_TEST = 3000  # test rows of a set without a test file
TEST_SEED = 0  # which these are: the same for all seeds


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A data set in the folder of its name."""

    name: str
    task: str
    train: str
    test: str | None  # None: some rows of the first file
    columns: tuple[str | None, str | None] = field(default=(None, None), kw_only=True)  # of text and label

    @property
    def metric(self) -> str:
        return "f1" if self.task == "tag" else "accuracy"

    @property
    def ending(self) -> str:
        """Of a file of its rows."""
        return "conll" if self.task == "tag" else "jsonl"


SETS = (
    PublicSet("sst2", "classify", "train.tsv", "test.tsv"),
    PublicSet("banking77", "classify", "train.csv", "test.csv"),
    PublicSet("agnews", "classify", "test.csv", None, columns=("1,2", "0")),
    PublicSet("conll2003", "tag", "eng.train", "eng.testb"),
)
Some = TypeVar("Some", bound=PublicSet)
Rows = list[Any]  # Any: rows of the task's family


def chosen_sets(names: str | None, sets: Sequence[Some]) -> tuple[Some, ...]:
    """Those of these names, by commas, in their order; Stop for one that there is not."""
    if names is None:
        return tuple(sets)
    known = {one.name: one for one in sets}
    asked = list(dict.fromkeys(filter(None, map(str.strip, names.split(",")))))
    if not asked or not known.keys() >= set(asked):
        raise Stop(f"--sets is {names!r}. The sets are: {', '.join(known)}")
    return tuple(known[name] for name in asked)


def read_set(source: Path, one: PublicSet) -> tuple[Rows, Rows]:
    """The rows to train on and those to test on, from the set's folder."""
    how = Data("", text=one.columns[0], label=one.columns[1])
    rows = list(read_rows(str(source / one.train), how, one.task, {}).rows)
    if one.test is not None:
        return rows, list(read_rows(str(source / one.test), how, one.task, {}).rows)
    random.Random(TEST_SEED).shuffle(rows)
    return rows[CUT_TEST:], rows[:CUT_TEST]


def write_rows(path: Path, rows: Sequence[LabelRow] | Sequence[TagRow], *, is_labelled: bool = True) -> None:
    """Write the rows, unless the file has them already; those without labels have no trace of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(_lines(rows, is_labelled=is_labelled))
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def text_of(row: Any) -> str:  # Any: as above
    """All texts of a row."""
    return "\n".join(row.texts)


def _lines(rows: Sequence[LabelRow] | Sequence[TagRow], *, is_labelled: bool) -> Iterator[str]:
    for row in rows:
        if isinstance(row, TagRow):
            tags = row.tags if is_labelled else ("O",) * len(row.tags)
            yield "".join(f"{word} {tag}\n" for word, tag in zip(row.input["tokens"], tags, strict=True)) + "\n"
        else:
            plain = {"text": row.input["text"]} | ({"label": row.labels[0]} if is_labelled else {})
            yield json.dumps(plain, ensure_ascii=False) + "\n"
