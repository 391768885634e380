"""The columns of a stored split: those of its family, then id, file, line, origin and extra, with their Arrow types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmos.abi.json_type import Json
from llmos.abi.recipe import ROW_FILES
from llmos.data.datasets.stored_row import NOTHING, StoredRow
from llmos.data.families import rows_of

SPLITS = ROW_FILES
OWN = {
    "id": "the row's id in this home",
    "file": "the file that it was read from",
    "line": "its line there",
    "origin": "how it was made, as JSON, if it was not read",
    "extra": "the source's other columns, as JSON",
}
METADATA = b"llmos"  # of a file's schema: the task and its options, as JSON


def schema_of(task: str, options: Mapping[str, Json]) -> Any:  # Any: pyarrow has no types
    """The Arrow schema of a split of this task."""
    import pyarrow as pa  # here, for only processes that touch datasets pay for it

    kinds = {
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "integers": pa.list_(pa.int64()),
        "number": pa.float64(),
        "flag": pa.bool_(),
    }
    family = {name: kinds[kind] for name, kind in rows_of(task).stored_types(task, options).items()}
    own = {"id": pa.string(), "file": pa.string(), "line": pa.int64(), "origin": pa.string(), "extra": pa.string()}
    fields = [pa.field(name, kind) for name, kind in {**family, **own}.items()]
    said = json.dumps({"task": task, "options": dict(options)}, ensure_ascii=False, sort_keys=True)
    return pa.schema(fields, {METADATA: said.encode()})


def columns_of(task: str, options: Mapping[str, Json]) -> dict[str, str]:
    """What is in each column, for manifests."""
    return {**rows_of(task).stored_columns(task, options), **OWN}


def cells_of(task: str, stored: StoredRow[Any]) -> tuple[Json, ...]:  # Any: a row of the task's family
    """A row in the schema's columns."""
    row = stored.row
    own = (stored.id, _name_of(row.file), row.line, _json_of(stored.origin), _json_of(stored.extra or None))
    return (*rows_of(task).stored_cells(task, row), *own)


def stored_row(task: str, options: Mapping[str, Json], cells: Mapping[str, Json], id: str) -> StoredRow[Any]:
    """The row in these cells."""
    row = rows_of(task).stored_row(task, options, cells, str(cells.get("file") or ""), int(cells.get("line") or 0))
    origin, extra = cells.get("origin"), cells.get("extra")
    return StoredRow(id, row, json.loads(extra) if extra else NOTHING, json.loads(origin) if origin else None)


@lru_cache(maxsize=64)
def _name_of(file: str) -> str:
    return Path(file).name


def _json_of(value: Mapping[str, Json] | None) -> str | None:
    return None if value is None else json.dumps(dict(value), ensure_ascii=False, sort_keys=True)
