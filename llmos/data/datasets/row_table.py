"""What operations on datasets compare of each row: id, content and split as numbers, 17 bytes for a row."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmos.abi.json_type import Json
from llmos.data.datasets.columns import SPLITS
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.families import rows_of
from llmos.data.row import Row

EVERY = 4096  # rows between two reports


@dataclass(frozen=True, slots=True)
class RowTable:
    """Arrays with an entry for each row, in the order of the splits: ids and contents (uint64), splits (uint8).

    `labels` counts the rows of each label.
    """

    ids: Any  # Any: arrays
    contents: Any
    splits: Any
    labels: Counter[str]


def table_of(reader: DatasetReader, on_rows: Callable[[int], None] = lambda rows: None) -> RowTable:
    """Read a dataset's rows once; `on_rows` is told how many more were read."""
    import numpy as np

    ids, contents, splits, labels = array("Q"), array("Q"), array("B"), Counter[str]()
    for split in reader.splits:
        for stored in reader.rows(split):
            ids.append(int(stored.id, 16))
            contents.append(content_of(stored.row))
            splits.append(SPLITS.index(split))
            labels.update(stored.row.kinds)
            if not len(ids) % EVERY:
                on_rows(EVERY)
    return RowTable(np.array(ids, np.uint64), np.array(contents, np.uint64), np.array(splits, np.uint8), labels)


def content_of(row: Row) -> int:
    """A number for input and target; equal ones have equal numbers."""
    return int.from_bytes(hashlib.blake2b(row.identity.encode(), digest_size=8).digest(), "big")


def plain_row(task: str, options: Mapping[str, Json], split: str, stored: StoredRow[Any]) -> dict[str, Json]:
    """A row as JSON, for people: its id and split, the columns of its task, the source's other columns."""
    family = rows_of(task)
    cells = dict(zip(family.stored_columns(task, options), family.stored_cells(task, stored.row), strict=True))
    where = {"file": stored.row.file, "line": stored.row.line}
    others = {"extra": dict(stored.extra)} if stored.extra else {}
    made = {"origin": dict(stored.origin)} if stored.origin else {}
    return {"id": stored.id, "split": split, **cells, **where, **others, **made}
