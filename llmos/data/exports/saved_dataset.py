"""A folder as `save_to_disk` of Hugging Face's datasets writes it, in a ZIP file: Arrow rows, features and state."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_STORED, ZipFile

from llmos.abi.json_type import Json
from llmos.data.byte_source import sha256_of_file
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset
from llmos.data.exports.tables import arrow_schema, record_batches
from llmos.data.formats.class_names import KEY

FILE = "data-00000-of-00001.arrow"
INFO, STATE = "dataset_info.json", "state.json"


def write_saved_dataset(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """Write the rows aside first, then the ZIP file, uncompressed: the reader maps the rows into memory."""
    import pyarrow as pa

    schema = arrow_schema(dataset)
    features = {field.name: _feature(field.type) for field in schema}
    schema = schema.with_metadata({KEY: json.dumps({"info": {"features": features}})})
    with TemporaryDirectory(dir=path.parent) as aside:
        data = Path(aside, FILE)
        with pa.OSFile(str(data), "wb") as file, pa.ipc.new_stream(file, schema) as out:
            for batch in record_batches(schema, rows, dataset):
                out.write_batch(batch)
        state: dict[str, Json] = {
            "_data_files": [{"filename": FILE}],
            "_fingerprint": sha256_of_file(data)[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        info: dict[str, Json] = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
        with ZipFile(path, "w", ZIP_STORED) as out:
            out.write(data, FILE)
            for name, value in ((INFO, info), (STATE, state)):
                out.writestr(name, json.dumps(value, indent=2, ensure_ascii=False))


def _feature(kind: Any) -> dict[str, Json]:  # Any: pyarrow has no types
    """A column's type in the words of datasets."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}
