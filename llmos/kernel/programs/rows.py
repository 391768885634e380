"""The files and datasets of rows that the arguments of a program name as `data`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.kernel.programs.declaration import row_files
from llmos.kernel.store.store import Store


def row_sources(args: Mapping[str, Json]) -> Iterator[str]:
    """Every file or dataset that the arguments name as data."""
    data = args.get("data")
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        yield from (source for _, source in row_files(data))


def check_rows(args: Mapping[str, Json], store: Store) -> None:
    """BadInput for a file that is not there, DatasetNotFound for a dataset that is not."""
    for source in row_sources(args):
        check_source(source, store)


def check_source(source: str, store: Store) -> None:
    """As `check_rows`, for one file or dataset."""
    if source.startswith("/"):
        if not Path(source).is_file():
            raise BadInput(f"No file {source}. Check the path; it is read by the daemon, on its machine", file=source)
    elif "@" in source:
        store.dataset(source)
    else:
        raise BadInput(f"{source!r} is neither an absolute path nor a dataset like name@1", file=source)
