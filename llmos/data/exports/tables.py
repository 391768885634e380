"""Rows as tables: CSV, TSV, a column for each label, fastText's lines, Parquet, Arrow and SQLite."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset, Write
from llmos.data.families import rows_of
from llmos.data.row import LabelRow

BATCH_ROWS = 4096
TABLE = "rows"
OF_SPANS = ("text", "spans")  # of tagged words: a table has the words, of which the reader makes the same row


def write_delimited(delimiter: str) -> Write:
    """Writes cells in quotes, lines that end with LF, and a header."""

    def write(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
        names = _names(dataset)
        with path.open("w", encoding="utf-8", newline="") as out:
            table = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
            table.writerow(names)
            for stored in rows:
                found = {**dataset.cells(stored), **dataset.others(stored)}
                table.writerow([_text(found.get(name)) for name in names])

    return write


def write_one_hot(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """A text and a column of 0 and 1 for each label."""
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        table.writerow(["text", *dataset.labels])
        for stored in rows:
            row: LabelRow = stored.row
            table.writerow([row.input["text"], *(int(label in row.labels) for label in dataset.labels)])


def write_fasttext(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """`__label__name text`; BadInput where a label has white space, which the format cannot say."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for stored in rows:
            row: LabelRow = stored.row
            for label in row.labels:
                if len(label.split()) != 1 or label != label.strip():
                    raise BadInput(
                        f"fasttext cannot say the label {label!r}, which has white space. Export as csv or jsonl",
                        format="fasttext",
                        value=label,
                    )
            labels = " ".join(f"__label__{label}" for label in row.labels)
            out.write(f"{labels} {' '.join(row.input['text'].split())}\n")


def write_parquet(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """Columns of the task's types; the source's other columns as texts."""
    import pyarrow.parquet as pq

    schema = arrow_schema(dataset)
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        for batch in record_batches(schema, rows, dataset):
            out.write_batch(batch)


def write_arrow(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """An Arrow IPC file, which is Feather 2."""
    import pyarrow as pa

    schema = arrow_schema(dataset)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as out:
        for batch in record_batches(schema, rows, dataset):
            out.write_batch(batch)


def write_sqlite(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """A database with one table, `rows`."""
    names = _names(dataset)
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE {TABLE} ({columns})")
        found = ({**dataset.cells(stored), **dataset.others(stored)} for stored in rows)
        database.executemany(
            f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(names))})",
            ([_plain(row.get(name)) for name in names] for row in found),
        )
        database.commit()


def _names(dataset: ExportedDataset) -> list[str]:
    """The columns: those of the task, the id, and others that have no name of these."""
    stored = rows_of(dataset.task).stored_columns(dataset.task, dataset.options)
    own = [*(name for name in stored if name not in OF_SPANS or "tokens" not in stored), "id"]
    return [*own, *(name for name in dataset.extras if name not in own)]


def _text(value: Json) -> str:
    """A cell as text; a list as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(value: Json) -> Json:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def arrow_schema(dataset: ExportedDataset) -> Any:  # Any: pyarrow has no types
    """The columns with their types: the task's own, and the others as texts."""
    import pyarrow as pa

    kinds = {
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "integers": pa.list_(pa.int64()),
        "number": pa.float64(),
        "flag": pa.bool_(),
    }
    types = rows_of(dataset.task).stored_types(dataset.task, dataset.options)
    own = {name: kinds[kind] for name, kind in types.items()}
    return pa.schema([(name, own.get(name, pa.string())) for name in _names(dataset)])


def record_batches(schema: Any, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> Iterator[Any]:
    """Batches of rows, of which one is in memory at a time."""
    import pyarrow as pa

    own = rows_of(dataset.task).stored_columns(dataset.task, dataset.options)
    left = iter(rows)
    while batch := list(islice(left, BATCH_ROWS)):
        found = [{**dataset.cells(stored), **dataset.others(stored)} for stored in batch]
        columns = [
            pa.array(
                [row.get(name) if name in own or row.get(name) is None else _text(row[name]) for row in found],
                schema.field(name).type,
            )
            for name in schema.names
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
