"""Reads a dataset's splits row by row in constant memory, those that an earlier version wrote too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest
from llmos.abi.objective import DETECT, PLAIN
from llmos.abi.task import PREFERENCES
from llmos.data.datasets.columns import METADATA, SPLITS, stored_row
from llmos.data.datasets.row_ids import RowIds
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.families import rows_of
from llmos.data.row import Row

BATCH_ROWS = 2048
ROW_OPTIONS = ("multi_label", PREFERENCES.name)


class DatasetReader:
    """The rows of one version. Rows of earlier versions, which have no ids, get them by `key` when they are read."""

    def __init__(self, folder: Path, manifest: DatasetManifest, *, key: bytes = b"") -> None:
        self._folder, self._key = folder, key
        self.ref = manifest.ref
        self.task = manifest.task
        self.options: dict[str, Json] = dict(manifest.options)
        self.splits: tuple[str, ...] = tuple(name for name in SPLITS if self.path(name).exists())

    def path(self, split: str) -> Path:
        """The file of a split."""
        return self._folder / f"{split}.parquet"

    def rows(self, split: str, *, start: int = 0) -> Iterator[StoredRow[Any]]:  # Any: rows of the task's family
        """The rows of a split in their order, from this one on; BadInput if the dataset has no such split."""
        import pyarrow.parquet as pq

        if split not in self.splits:
            raise BadInput(
                f"{self.ref} has no {split} split. It has: {', '.join(self.splits)}",
                split=split,
                expected=list(self.splits),
            )
        with pq.ParquetFile(self.path(split)) as file:
            has_ids = "id" in file.schema_arrow.names
            groups, left = _groups_from(file, start if has_ids else 0)
            rows = self._stored_rows(file, groups) if has_ids else self._earlier_rows(file)
            for at, row in enumerate(rows):
                if at >= (left if has_ids else start):
                    yield row

    def _stored_rows(self, file: Any, groups: list[int]) -> Iterator[StoredRow[Any]]:  # Any: pyarrow has no types
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups):
            for cells in batch.to_pylist():
                yield stored_row(self.task, self.options, cells, cells["id"])

    def _earlier_rows(self, file: Any) -> Iterator[StoredRow[Any]]:  # Any: as above
        ids = RowIds(self._key)
        for batch in file.iter_batches(BATCH_ROWS):
            rows: list[StoredRow[Row]] = [stored_row(self.task, self.options, cells, "") for cells in batch.to_pylist()]
            for row, id in zip(rows, ids.of([one.row for one in rows]), strict=True):
                yield StoredRow(id, row.row, row.extra, row.origin)


def open_dataset(
    folder: Path, task: str, options: Mapping[str, Json], ref: str = "dataset@1", key: bytes = b""
) -> DatasetReader:
    """The dataset in this folder, for this task, described by its own files.

    BadInput if it is for another task, or has several labels a row where `options` allow one. Its preference rows are
    read as such, unless the options say `off`.
    """
    name, _, version = ref.partition("@")
    there = [folder / f"{one}.parquet" for one in SPLITS if (folder / f"{one}.parquet").exists()]
    if not there:
        raise BadInput(f"The files of the dataset {ref} are gone. Import it again", dataset=ref)
    own, said = described_in(there[0])
    if own and rows_of(own).stored_columns(own, {}) != rows_of(task).stored_columns(task, {}):
        raise BadInput(f"The dataset {ref} is for {own}, not for {task}. Name another", dataset=ref, task=task, has=own)
    if said.get("multi_label") and not options.get("multi_label", True):
        raise BadInput(
            f"The rows of {ref} have several labels each, and here a row has one (multi_label is false)",
            key="multi_label",
            dataset=ref,
        )
    wanted = {**said, **row_options({**options, PREFERENCES.name: None})}
    if options.get(PREFERENCES.name) == PLAIN:
        wanted.pop(PREFERENCES.name, None)
    return DatasetReader(folder, DatasetManifest(name, int(version or 1), task, (), options=wanted), key=key)


def row_options(options: Mapping[str, Json]) -> dict[str, Json]:
    """Those of a task's options that say how its rows are read, which a dataset keeps."""
    return {name: options[name] for name in ROW_OPTIONS if options.get(name) and options[name] not in (PLAIN, DETECT)}


def described_in(path: Path) -> tuple[str, dict[str, Json]]:
    """The task and options that a split's file names; nothing in one of an earlier version."""
    import pyarrow.parquet as pq

    said = json.loads((pq.read_schema(path).metadata or {}).get(METADATA, b"{}"))
    return str(said.get("task", "")), dict(said.get("options", {}))


def _groups_from(file: Any, start: int) -> tuple[list[int], int]:  # Any: pyarrow has no types
    """The row groups from the one with this row on, and how many of its first rows come before it."""
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    at = 0
    while at < len(sizes) and start >= sizes[at]:
        start -= sizes[at]
        at += 1
    return list(range(at, len(sizes))), start
