"""Writes a dataset's splits as Parquet, row by row in constant memory; equal rows give equal bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.model import Part
from llmos.data.datasets.columns import SPLITS, cells_of, columns_of, schema_of
from llmos.data.datasets.stored_row import NOTHING, StoredRow
from llmos.data.families import rows_of
from llmos.data.row import Row

GROUP_ROWS = 16_384  # rows of a Parquet row group, which are in memory at a time
GROUP_CHARS = 16 * 1024 * 1024
MOST_LABELS = 100_000


@dataclass(frozen=True, slots=True)
class WrittenDataset:
    """A dataset's files in a scratch folder, and what a manifest says of them.

    `counts` are rows by split, `label_counts` rows by label in each split, `extras` the names of the other columns with
    how many rows have them; `digest` covers inputs and targets of all rows, by split.
    """

    folder: Path
    task: str
    options: dict[str, Json]
    files: tuple[tuple[str, Part], ...]
    counts: dict[str, int]
    columns: dict[str, str]
    labels: tuple[str, ...]
    label_counts: dict[str, dict[str, int]]
    extras: dict[str, int]
    digest: str


@dataclass(slots=True)
class _Split:
    """One file while it is written."""

    path: Path
    writer: Any = None  # Any: pyarrow has no types
    waiting: list[tuple[Json, ...]] = field(default_factory=list)
    chars: int = 0
    count: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    digest: Any = field(default_factory=hashlib.sha256)  # Any: hashlib's type has no name


class DatasetWriter:
    """Writes into an empty folder. A context manager: a block that fails leaves files that nobody offers."""

    def __init__(self, folder: Path, task: str, *, options: Mapping[str, Json] = NOTHING) -> None:
        self._folder, self._task, self._options = folder, task, dict(options)
        self._schema = schema_of(task, self._options)
        self._family = rows_of(task).stored_columns(task, self._options)
        self._splits: dict[str, _Split] = {}
        self._kinds: dict[str, Row] = {}  # a row of each label
        self._extras: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for split in self._splits.values():
            if split.writer is not None:
                split.writer.close()

    def add(self, split: str, row: StoredRow[Any]) -> None:
        """Append a row to a split: train, validation or test."""
        assert split in SPLITS, f"{split} is no split"
        part = self._splits.get(split) or self._splits.setdefault(split, _Split(self._folder / f"{split}.parquet"))
        part.count += 1
        kinds = row.row.kinds
        for kind in kinds:
            part.labels[kind] += 1
        if not kinds <= self._kinds.keys():
            self._add_kinds(kinds, row.row)
        if row.extra:
            self._extras.update(row.extra.keys())
        part.waiting.append(cells_of(self._task, row))
        part.chars += sum(map(len, row.row.texts))
        if len(part.waiting) >= GROUP_ROWS or part.chars >= GROUP_CHARS:
            self._flush(part)

    def finish(self) -> WrittenDataset:
        """Close the files; BadInput if no row was written."""
        if not self._splits:
            raise BadInput("No row is left to write, so there is no dataset", reason="no_rows")
        parts = {name: self._splits[name] for name in SPLITS if name in self._splits}
        seen = hashlib.sha256()
        for name, part in parts.items():
            self._flush(part)
            part.writer.close()
            part.writer = None
            seen.update(name.encode() + part.digest.digest())
        return WrittenDataset(
            self._folder,
            self._task,
            self._options,
            tuple((part.path.name, Part.OTHER) for part in parts.values()),
            {name: part.count for name, part in parts.items()},
            columns_of(self._task, self._options),
            self._labels(),
            {name: dict(sorted(part.labels.items())) for name, part in parts.items() if part.labels},
            dict(self._extras),
            seen.hexdigest(),
        )

    def _add_kinds(self, kinds: set[str], row: Row) -> None:
        for kind in kinds - self._kinds.keys():
            self._kinds[kind] = row
        if len(self._kinds) > MOST_LABELS:
            raise BadInput(
                f"There are more than {MOST_LABELS:,} different labels, such as {next(iter(self._kinds))!r}. "
                "Name the column with the label: --label",
                reason="too_many_labels",
                limit=MOST_LABELS,
            )

    def _labels(self) -> tuple[str, ...]:
        """In head order; by letter where they are too few to train on."""
        try:
            return rows_of(self._task).labels_of(self._task, self._kinds.values()) if self._kinds else ()
        except BadInput:
            return tuple(sorted(self._kinds))

    def _flush(self, part: _Split) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if part.writer is None:
            part.writer = pq.ParquetWriter(part.path, self._schema, compression="zstd", use_dictionary=["file"])
        if part.waiting:
            columns = [
                pa.array(column, one.type)
                for column, one in zip(zip(*part.waiting, strict=True), self._schema, strict=True)
            ]
            for column in columns[: len(self._family)]:
                _digest(part.digest, column)
            part.writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), GROUP_ROWS)
        part.waiting, part.chars = [], 0


def _digest(seen: Any, column: Any) -> None:  # Any: a hash, and an Arrow array
    """Add a column's bytes: of equal rows they are equal, for rows are written in groups of one size."""
    for buffer in column.buffers():
        seen.update(b"" if buffer is None else buffer)
