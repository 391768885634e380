"""Loads a run's data: files or a stored dataset in, train, validation and test splits with provenance out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.objective import DETECT, PLAIN
from llmos.abi.recipe import UNLABELLED, Data
from llmos.abi.task import PREFERENCES
from llmos.abi.weak_labels import WEAK_LABEL
from llmos.data.byte_source import sha256_of_file
from llmos.data.datasets.columns import SPLITS
from llmos.data.datasets.dataset_reader import open_dataset, row_options
from llmos.data.datasets.dataset_writer import DatasetWriter, WrittenDataset
from llmos.data.datasets.row_ids import RowIds
from llmos.data.datasets.split_by import SplitBy, choose_units, column_leaks, split_by
from llmos.data.datasets.stored_row import NOTHING, StoredRow
from llmos.data.families import rows_of
from llmos.data.formats.saved_dataset import splits_of
from llmos.data.reader import read_rows, stream_rows
from llmos.data.row import Row, Rows
from llmos.data.splits import Leak, Part, Splits, choose_rows, key_of, leaks_of, make_splits


@dataclass(frozen=True, slots=True)
class LoadedData:
    """The rows of a run by split, where they came from, and what leaked.

    `stored` has the same rows in the same order with their ids and other columns; `options` are those that a dataset
    was read with, which the recipe need not repeat.
    """

    splits: Splits
    sources: dict[str, Json]
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...] = ()  # how files were read, where they did not say it themselves
    stored: dict[str, tuple[StoredRow[Any], ...]] = field(default_factory=dict)
    options: dict[str, Json] = field(default_factory=dict)

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


def gather(
    data: Data, task: str, options: dict[str, Json], folders: Mapping[str, str], *, key: bytes = b""
) -> LoadedData:
    """Read every source once, and make the splits that are not given. `key` is the home's, for ids of rows."""
    sources = _sources(data, folders)
    of_dataset = _options_of(sources, task)
    options = {**row_options(of_dataset), **options}
    options = options | _form_option(sources["train"], data, task, options)
    read = {name: _read(source, data, task, options, key) for name, source in sources.items()}
    given = {name: None if rows is None else rows.rows for name, rows in read.items()}
    train = given["train"]
    assert train is not None
    shares = (data.validation_share, data.test_share)
    by_object = _stored_by_object([rows for rows in read.values() if rows is not None], key)
    by = split_by(of_dataset)
    part = _part_by(by, by_object) if by != SplitBy() else None
    weak = frozenset(one for one, stored in by_object.items() if WEAK_LABEL in stored.extra)
    if weak and not all(id(row) in weak for row in train):
        part = _among_labelled(part or choose_rows, weak)
    splits = make_splits(task, train, given["validation"], given["test"], shares, part)
    stored = {name: tuple(by_object[id(row)] for row in rows) for name, rows in splits.by_name().items()}
    described = {name: _describe(rows, sources[name]) for name, rows in read.items() if rows is not None}
    notes = tuple(dict.fromkeys(note for rows in read.values() if rows is not None for note in rows.notes))
    notes += weak_notes(stored)
    leaks = (*leaks_of(splits), *column_leaks(stored, by))
    return LoadedData(splits, described, leaks, notes, stored, row_options({**of_dataset, **options}))


def _form_option(source: _Source | None, data: Data, task: str, options: Mapping[str, Json]) -> dict[str, Json]:
    """The form of the source's preference rows, where the options leave it to the rows."""
    if source is None or options.get(PREFERENCES.name) != DETECT:
        return {}
    if source.dataset:
        found = open_dataset(Path(source.path), task, {}, source.dataset).options
    else:
        found = dict(stream_rows(source.path, data, task, dict(options)).reader.options)
    return {PREFERENCES.name: found.get(PREFERENCES.name, PLAIN)}


def _part_by(by: SplitBy, by_object: Mapping[int, StoredRow[Any]]) -> Part:
    """A choice of rows by the columns of a dataset."""

    def part(rows: list[Row], share: float, name: str) -> set[int]:
        units = [by.unit(by_object[id(row)]) for row in rows]
        return choose_units(units, share, name, by_time=bool(by.time))

    return part


def _among_labelled(part: Part, weak: Collection[int]) -> Part:
    """A choice among rows whose label is not by rules alone: what is measured on must be right."""

    def choose(rows: list[Row], share: float, name: str) -> set[int]:
        own = [i for i, row in enumerate(rows) if id(row) not in weak]
        return {own[i] for i in part([rows[i] for i in own], share, name)}

    return choose


def weak_notes(stored: Mapping[str, Sequence[StoredRow[Any]]]) -> tuple[str, ...]:
    """What a user should know of rows whose labels are by rules and which are measured on."""
    counts = {name: sum(WEAK_LABEL in one.extra for one in rows) for name, rows in stored.items()}
    return tuple(
        f"{name}: {count:,} of {len(stored[name]):,} rows have labels by rules. Figures on them say how well the rules "
        "are imitated, not how right the answers are"
        for name, count in counts.items()
        if count and name != "train"
    )


def _stored_by_object(read: list[Rows[Any]], key: bytes) -> dict[int, StoredRow[Any]]:
    """Each row, by its place in memory, with its id and other columns; rows of files get their ids here."""
    ids, by_object = RowIds(key), {}
    for rows in read:
        own = rows.ids or ids.of(rows.rows)
        extras, origins = rows.extras or [NOTHING] * len(own), rows.origins or [None] * len(own)
        for one, row, extra, origin in zip(own, rows.rows, extras, origins, strict=True):
            by_object[id(row)] = StoredRow(one, row, extra, origin)
    return by_object


def test_rows(data: Data, task: str, options: dict[str, Json], folders: Mapping[str, str], key: bytes) -> Rows[Any]:
    """The rows to measure a model on: those of the one file named; of a stored dataset, which goes by its ref, the test
    split, or all rows where it has no splits. With a key, rows of a file get the ids that a dataset would give them."""
    sources = _sources(data, folders)
    source = sources["test"] or sources["train"]
    options = options | _form_option(source, data, task, options)
    rows = _read(source, data, task, options, key)
    assert rows is not None
    assert source is not None
    if key and not rows.ids:
        rows = replace(rows, ids=tuple(RowIds(key).of(rows.rows)))
    return replace(rows, path=source.dataset) if source.dataset else rows


def training_keys(
    folder: str, task: str, options: dict[str, Json], splits: Sequence[str] = ("train",)
) -> frozenset[str]:
    """The keys of the texts that the models trained on this stored dataset have learned from, or of other splits."""
    reader = open_dataset(Path(folder), task, options)
    there = [split for split in splits if split in reader.splits]
    return frozenset(key_of(stored.row) for split in there for stored in reader.rows(split))


def stored_test_rows(folder: str, task: str, options: dict[str, Json]) -> list[Row]:
    """The test rows of a stored dataset, none where it has no such split; BadInput if it is for another task."""
    reader = open_dataset(Path(folder), task, options)
    return [stored.row for stored in reader.rows("test")] if "test" in reader.splits else []


def keep(gathered: LoadedData, task: str, folder: Path, options: Mapping[str, Json] = NOTHING) -> WrittenDataset:
    """Write the splits as Parquet, one file each; the same rows give the same bytes."""
    with DatasetWriter(folder, task, options=options) as writer:
        for name, rows in gathered.stored.items():
            for stored in rows:
                writer.add(name, stored)
        return writer.finish()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where rows come from: a file, or a split of the dataset in this folder."""

    path: str
    dataset: str = ""  # its ref
    split: str = ""


def _sources(data: Data, folders: Mapping[str, str]) -> dict[str, _Source | None]:
    """A dataset named as train brings its other splits along, where no other source is named for them."""
    told = {"train": data.train, "validation": data.validation, "test": data.test}
    splits = splits_of(data.train)  # of a folder that save_to_disk wrote; the training split is read from the folder
    told = {name: source or splits.get(name) for name, source in told.items()}
    found: dict[str, _Source | None] = {}
    for name, source in told.items():
        brought = source or (data.train if data.train in folders else None)
        if brought is None or brought not in folders:
            found[name] = None if source is None else _Source(source)
            continue
        split = name if source is None else _split_of(folders[brought], brought, name)
        has_split = (Path(folders[brought]) / f"{split}.parquet").exists()
        found[name] = _Source(folders[brought], brought, split) if has_split else None
    return found


def _split_of(folder: str, ref: str, wanted: str) -> str:
    """The wanted split of a dataset that is named for it; of one without splits, all its rows."""
    there = [name for name in SPLITS if (Path(folder) / f"{name}.parquet").exists()]
    if wanted in there:
        return wanted
    if len(there) == 1 and there[0] != UNLABELLED:
        return there[0]
    raise BadInput(
        f"The dataset {ref} has no {wanted} split (it has {', '.join(there) or 'none'}). Name a file for it",
        split=wanted,
        expected=there,
    )


def _options_of(sources: Mapping[str, _Source | None], task: str) -> dict[str, Json]:
    """The options that the datasets among these were read with."""
    found: dict[str, Json] = {}
    for source in sources.values():
        if source is not None and source.dataset:
            found |= open_dataset(Path(source.path), task, {}, source.dataset).options
    return found


def _read(
    source: _Source | None, data: Data, task: str, options: dict[str, Json], key: bytes
) -> Rows[Any] | None:  # Any: rows of the task's family
    """A stored split is read by its own columns, whatever was said of the other files."""
    if source is None:
        return None
    if not source.dataset:
        return read_rows(source.path, data, task, options)
    reader = open_dataset(Path(source.path), task, options, source.dataset, key)
    stored = tuple(reader.rows(source.split))
    columns = {name: name for name in rows_of(task).stored_columns(task, reader.options)}
    return Rows(
        tuple(one.row for one in stored),
        str(reader.path(source.split)),
        "parquet",
        columns,
        extras=tuple(one.extra for one in stored) if any(one.extra for one in stored) else (),
        ids=tuple(one.id for one in stored),
        origins=tuple(one.origin for one in stored) if any(one.origin for one in stored) else (),
    )


def describe_source(rows: Rows[Any], count: int) -> dict[str, Json]:
    """A file's provenance: its path and digest, how it was read, and what was left out."""
    return {
        "path": rows.path,
        "sha256": sha256_of_file(Path(rows.path)),
        "rows": count,
        "format": rows.format,
        "columns": rows.columns,
        **({"scheme": rows.scheme} if rows.scheme else {}),
        **({"encoding": rows.encoding} if rows.encoding else {}),
        **({"skipped": rows.skip_counts} if rows.skip_counts else {}),
        **({"counts": rows.counts} if rows.counts else {}),
        **({"left_out": list(rows.left_out)} if rows.left_out else {}),
    }


def _describe(rows: Rows[Any], source: _Source | None) -> Json:
    of_dataset = {"dataset": source.dataset, "split": source.split} if source is not None and source.dataset else {}
    return describe_source(rows, len(rows.rows)) | of_dataset
