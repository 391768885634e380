"""Reads the rows without labels that a training run learns from beside the labelled ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmos.abi.json_type import Json
from llmos.abi.recipe import UNLABELLED, Data
from llmos.data.datasets.dataset_reader import open_dataset
from llmos.data.families import taught_reader_of
from llmos.data.reader import stream_rows
from llmos.data.row import Row
from llmos.data.splits import Splits, key_of


def unlabelled_rows(
    data: Data, task: str, options: dict[str, Json], folders: Mapping[str, str], splits: Splits
) -> list[Any]:  # Any: rows of the task's family
    """The rows of the file or dataset named, else of the training dataset's own split; each text once, and none that a
    labelled split has: what is measured on must not be learned."""
    known = {key_of(row) for rows in splits.by_name().values() for row in rows}
    kept: list[Row] = []
    for row in _read(data, task, options, folders):
        key = key_of(row)
        if key not in known:
            known.add(key)
            kept.append(row)
    return kept


def _read(data: Data, task: str, options: dict[str, Json], folders: Mapping[str, str]) -> list[Any]:  # Any: as above
    source = data.unlabelled or data.train
    if source in folders:
        if not (Path(folders[source]) / f"{UNLABELLED}.parquet").exists():
            return []
        return [stored.row for stored in open_dataset(Path(folders[source]), task, options).rows(UNLABELLED)]
    if data.unlabelled is None:
        return []
    how, inputs = replace(data, format=None, query=None), taught_reader_of(task)
    return list(stream_rows(source, how, task, options, is_labelled=False, inputs=inputs))
