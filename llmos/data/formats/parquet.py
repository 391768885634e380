"""Parquet: row numbers stand for lines, from 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llmos.abi.roots import open_below
from llmos.data.decoding import refuse_empty
from llmos.data.formats.source import Source
from llmos.data.table import Record, Table, bad_row, table_of

BATCH_ROWS = 4096


def open_file(source: Source, form: str) -> Table:
    """The file's columns by their own names; a batch of rows is in memory at a time."""
    import pyarrow as pa  # here, for only this format pays for it
    import pyarrow.parquet as pq

    path = source.path
    refuse_empty(path)
    try:
        with open_below(path) as opened, pq.ParquetFile(opened) as file:
            names, count = file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        way_out = "Name its real format, csv for one"
        raise bad_row(path, 1, f"not a Parquet file ({error})", way_out, kind="parquet") from error
    if not count:
        raise bad_row(path, 1, "the file has no rows", "It needs at least one row of text and label", kind="no_rows")
    return table_of(path, form, names, _records(path))


def _records(path: Path) -> Iterator[Record]:
    import pyarrow.parquet as pq

    line = 0
    with open_below(path) as opened, pq.ParquetFile(opened) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                line += 1
                yield Record(line, cells)
