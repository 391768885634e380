"""Loads a run's data: files or a stored dataset in, train, validation and test splits with provenance out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.model import Part
from llmos.abi.recipe import Data
from llmos.data.byte_source import sha256_of_file
from llmos.data.families import rows_of
from llmos.data.formats.saved_dataset import splits_of
from llmos.data.reader import read_rows
from llmos.data.row import Row, Rows
from llmos.data.splits import Leak, Splits, key_of, leaks_of, make_splits

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class LoadedData:
    """The rows of a run by split, where they came from, and what leaked."""

    splits: Splits
    sources: dict[str, Json]
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...] = ()  # how files were read, where they did not say it themselves

    def counts(self) -> dict[str, int]:
        return {name: len(rows) for name, rows in self.splits.by_name().items()}

    def digest(self) -> str:
        """What identifies the rows, wherever they came from."""
        seen = hashlib.sha256()
        for name, rows in self.splits.by_name().items():
            seen.update(name.encode())
            for row in rows:
                seen.update(row.identity.encode())
        return seen.hexdigest()


def gather(data: Data, task: str, options: dict[str, Json], folders: Mapping[str, str]) -> LoadedData:
    """Read every source once, and make the splits that are not given."""
    read = {name: _read(source, data, task, options) for name, source in _sources(data, folders).items()}
    given = {name: None if rows is None else rows.rows for name, rows in read.items()}
    train = given["train"]
    assert train is not None
    shares = (data.validation_share, data.test_share)
    splits = make_splits(task, train, given["validation"], given["test"], shares)
    described = {name: _describe_source(rows) for name, rows in read.items() if rows is not None}
    notes = tuple(dict.fromkeys(note for rows in read.values() if rows is not None for note in rows.notes))
    return LoadedData(splits, described, leaks_of(splits), notes)


def test_rows(data: Data, task: str, options: dict[str, Json], folders: Mapping[str, str]) -> Rows[Any]:
    """The rows to measure a model on: the one file named, or a stored dataset's test split, which goes by its ref."""
    sources = _sources(data, folders)
    rows = _read(sources["test"] or sources["train"], data, task, options)
    assert rows is not None
    named = data.test or data.train
    return replace(rows, path=named) if named in folders else rows


def training_keys(folder: str, task: str, options: dict[str, Json]) -> frozenset[str]:
    """The keys of the texts that the models trained on this stored dataset have learned from."""
    path = str(Path(folder) / "train.parquet")
    rows = _read(_Source(path, True), Data(path), task, options)
    return frozenset(key_of(row) for row in rows.rows) if rows else frozenset()


def keep(gathered: LoadedData, task: str, folder: Path) -> tuple[tuple[str, Part], ...]:
    """Write the splits as Parquet, one file each; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, rows in gathered.splits.by_name().items():
        table = pa.table(_columns(task, rows))
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        files.append((f"{name}.parquet", Part.OTHER))
    return tuple(files)


def _columns(task: str, rows: Sequence[Row]) -> dict[str, list[Json]]:
    family = rows_of(task)
    named = list(family.stored_columns(task))
    cells = [dict(zip(named, family.stored_cells(task, row), strict=True)) for row in rows]
    columns = {name: [one[name] for one in cells] for name in named}
    return {**columns, "file": [Path(r.file).name for r in rows], "line": [r.line for r in rows]}


@dataclass(frozen=True, slots=True)
class _Source:
    path: str
    is_stored: bool


def _sources(data: Data, folders: Mapping[str, str]) -> dict[str, _Source | None]:
    """A dataset named as train brings its other splits along, where no other source is named for them."""
    told = {"train": data.train, "validation": data.validation, "test": data.test}
    splits = splits_of(data.train)  # of a folder that save_to_disk wrote; the training split is read from the folder
    told = {name: source or splits.get(name) for name, source in told.items()}
    found: dict[str, _Source | None] = {}
    for name, source in told.items():
        brought = source or (data.train if data.train in folders else None)
        if brought is None or brought not in folders:
            found[name] = None if source is None else _Source(source, False)
            continue
        path = Path(folders[brought]) / f"{name}.parquet"
        if not path.exists():
            raise BadInput(f"The dataset {brought} has no {name} split. Name a file for it", split=name)
        found[name] = _Source(str(path), True)
    return found


def _read(source: _Source | None, data: Data, task: str, options: dict[str, Json]) -> Rows[Any] | None:
    """A stored split is read by its own columns, whatever was said of the other files."""
    if source is None:
        return None
    how = replace(data, format="parquet", text=None, label=None) if source.is_stored else data
    rows = read_rows(source.path, how, task, options)
    return replace(rows, left_out=()) if source.is_stored else rows  # its file and line columns are provenance


def _describe_source(rows: Rows[Any]) -> Json:
    return {
        "path": rows.path,
        "sha256": sha256_of_file(Path(rows.path)),
        "rows": len(rows.rows),
        "format": rows.format,
        "columns": rows.columns,
        **({"scheme": rows.scheme} if rows.scheme else {}),
        **({"encoding": rows.encoding} if rows.encoding else {}),
        **({"skipped": rows.skip_counts} if rows.skip_counts else {}),
        **({"counts": rows.counts} if rows.counts else {}),
        **({"left_out": list(rows.left_out)} if rows.left_out else {}),
    }
