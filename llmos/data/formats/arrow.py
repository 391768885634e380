"""Arrow's IPC, files and streams (Feather 2 among them): row numbers stand for lines, from 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.byte_source import open_bytes
from llmos.data.decoding import HINT
from llmos.data.formats.class_names import names_in_metadata
from llmos.data.formats.source import Source
from llmos.data.table import Item, Record, Table, bad_row, table_of

FILE_MAGIC = b"ARROW1"
PANDAS_INDEX = "__index_level_0__"  # pandas' own numbers of rows


def open_file(source: Source, form: str) -> Table:
    """The file's columns by their own names; a batch of rows is in memory at a time."""
    return table_of_batches(source.path, form, [source.path])


def table_of_batches(path: Path, form: str, files: Sequence[Path]) -> Table:
    """The rows of these files one after another; they have one schema."""
    batches = chain.from_iterable(map(_batches, files))
    first = next(batches, None)
    if first is None:
        raise bad_row(path, 1, "the file has no rows", HINT, kind="no_rows")
    return table_of_columns(path, form, first.schema, chain((first,), batches))


def table_of_columns(path: Path, form: str, schema: Any, batches: Iterator[Any]) -> Table:  # Any: pyarrow has no types
    """A table of record batches; pandas' numbers of rows are left out."""
    kept = [i for i, name in enumerate(schema.names) if name != PANDAS_INDEX]
    names = [schema.names[i] for i in kept]
    table = table_of(path, form, names, _records(path, batches, kept), class_names=names_in_metadata(schema.metadata))
    table.left_out = tuple(name for name in schema.names if name == PANDAS_INDEX)
    return table


def _batches(path: Path) -> Iterator[Any]:  # Any: pyarrow has no types
    import pyarrow as pa  # here, for only this format pays for it

    with open_bytes(path) as file:
        is_file = file.read(len(FILE_MAGIC)) == FILE_MAGIC
        file.seek(0)
        try:
            if is_file:
                reader = pa.ipc.open_file(file)
                yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                yield from pa.ipc.open_stream(file)
        except (pa.ArrowInvalid, OSError) as error:
            way_out = "Write it again, or give Parquet"
            raise bad_row(path, 1, f"not an Arrow file ({error})", way_out, kind="arrow") from error


def _records(path: Path, batches: Iterator[Any], kept: Sequence[int]) -> Iterator[Item]:
    line = 0
    for batch in batches:
        columns = [batch.column(i) for i in kept]
        try:
            rows: Iterator[tuple[Json, ...]] = zip(*(column.to_pylist() for column in columns), strict=True)
            for cells in rows:
                line += 1
                yield Record(line, cells)
        except UnicodeDecodeError:
            for i in range(batch.num_rows):
                line += 1
                yield _record(path, line, columns, i)


def _record(path: Path, line: int, columns: Sequence[Any], i: int) -> Record | BadRow:
    """One row of a batch that has texts which are not UTF-8."""
    try:
        return Record(line, tuple(column[i].as_py() for column in columns))
    except UnicodeDecodeError as error:
        bad = error.object[error.start : error.end]
        return bad_row(path, line, f"the bytes {bad!r} are not UTF-8", "Mend the text", bad, kind="encoding")
