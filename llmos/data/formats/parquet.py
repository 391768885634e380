"""Parquet: row numbers stand for lines, from 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmos.data.byte_source import open_bytes
from llmos.data.decoding import HINT, refuse_empty
from llmos.data.formats.arrow import table_of_columns
from llmos.data.formats.source import Source
from llmos.data.table import Table, bad_row

BATCH_ROWS = 4096


def open_file(source: Source, form: str) -> Table:
    """The file's columns by their own names; a batch of rows is in memory at a time."""
    import pyarrow as pa  # here, for only this format pays for it
    import pyarrow.parquet as pq

    path = source.path
    refuse_empty(path)
    with open_bytes(path) as opened:
        try:
            with pq.ParquetFile(opened) as file:
                schema, count = file.schema_arrow, file.metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            way_out = "Name its real format, csv for one"
            raise bad_row(path, 1, f"not a Parquet file ({error})", way_out, kind="parquet") from error
    if not count:
        raise bad_row(path, 1, "the file has no rows", HINT, kind="no_rows")
    return table_of_columns(path, form, schema, _batches(path))


def _batches(path: Path) -> Iterator[Any]:  # Any: pyarrow has no types
    import pyarrow.parquet as pq

    with open_bytes(path) as opened, pq.ParquetFile(opened) as file:
        yield from file.iter_batches(BATCH_ROWS)
