"""The arguments that a client may give a program, checked, and the models and datasets that a job gets for them.

What is not declared, the daemon alone fills in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import msgspec

from llmos.abi.error import BadInput, BadSetting, NotFound
from llmos.abi.form import INT8, form_dtype
from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest
from llmos.abi.row_path import split_part
from llmos.abi.upload import is_upload, upload_id
from llmos.kernel.programs import declaration_of, declarations
from llmos.kernel.programs.declaration import row_files
from llmos.kernel.store.store import Store

MAX_TEXT = 4_096  # characters of a name, a path, a label
MAX_KEY = 60
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Rows = Text | dict[str, Json]  # a file or dataset, or one with settings for reading it


def check_arguments(program: str, args: Mapping[str, Json]) -> None:
    """Check the arguments; null counts as not given.

    BadInput for a program that only the daemon starts; BadSetting for an unknown argument or one of the wrong type.
    """
    types = declaration_of(program).arguments
    if types is None:
        raise BadInput(
            f"{program} is started by the daemon alone. There are: {', '.join(startable())}",
            key="program",
            value=program,
            expected=list(startable()),
        )
    for key, value in args.items():
        if value is None:
            continue
        if key not in types:
            said = key[:MAX_KEY]
            near = ", ".join(get_close_matches(said, types)) or "none"
            raise BadSetting(
                f"{program} takes no argument {said!r} (near: {near}). It takes: {', '.join(types)}",
                key=said,
                value="",
                expected=list(types),
                program=program,
            )
        _check_type(program, key, value, types[key])


def startable() -> list[str]:
    """The programs that a client may start."""
    return [name for name, one in declarations().items() if one.arguments is not None]


def _check_type(program: str, key: str, value: Json, kind: Any) -> None:  # Any: a type expression
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        said = str(error)
        raise BadSetting(
            f"{key} of {program} does not fit: {said[:200]}", key=key, value="", expected=said[:200], program=program
        ) from error
    if (size := _longest(value)) > MAX_TEXT:
        said = f"a text of at most {MAX_TEXT:,} characters"
        raise BadSetting(
            f"{key} of {program} has a text of {size:,} characters; it may have {MAX_TEXT:,}",
            key=key,
            value="",
            expected=said,
            program=program,
        )


def _longest(value: Json) -> int:
    """The length of the longest text in it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return max((max(len(name), _longest(one)) for name, one in value.items()), default=0)
    return max(map(_longest, value), default=0) if isinstance(value, (list, tuple)) else 0


def row_sources(args: Mapping[str, Json]) -> Iterator[str]:
    """Every file or dataset that the arguments name as data."""
    data = args.get("data")
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        yield from (source for _, source in row_files(data))


def is_dataset(source: str) -> bool:
    """Whether a source of rows names a dataset (name@version), not a file with that sign in its path."""
    return "@" in source and not source.startswith("/") and not is_upload(source)


def check_rows(args: Mapping[str, Json], store: Store) -> None:
    """BadInput for a file that is not there, DatasetNotFound for a dataset that is not."""
    for source in row_sources(args):
        check_source(source, store)


def check_source(source: str, store: Store, *, may_be_empty: bool = False) -> None:
    """As `check_rows`, for one file or dataset."""
    if is_upload(source):
        store.uploads.get(upload_id(source))
    elif source.startswith("/"):
        path = Path(split_part(source)[0])
        if (
            not may_be_empty and path.is_file() and not path.stat().st_size
        ):  # said at once: others may be first in the queue
            raise BadInput(f"{source} is empty. Give a file with a row in each line", file=source, kind="empty_file")
        if not path.exists():
            raise BadInput(
                f"No file {source}. Check the path; it is read by the daemon, on its machine. Send it one of another "
                "machine: llmos data upload FILE",
                file=source,
            )
    elif is_dataset(source):
        store.dataset(source)
    else:
        raise BadInput(
            f"{source!r} is neither an absolute path, nor a dataset like name@1, nor an uploaded file like upload:ID",
            file=source,
        )


def in_int8(manifest: Manifest, store: Store, floats: str) -> dict[str, ModelPath]:
    """The int8 version of a base, or of a model's base, where there is one, beside what computes in `floats`."""
    found = store.in_dtype(manifest.base or manifest.ref, INT8)
    return {} if found is None else {INT8: store.located(found, form_dtype(INT8, floats))}


def promoted(name: str, store: Store, dtype: str | None = None) -> dict[str, ModelPath]:
    """The promoted version of this name, where there is one."""
    version = store.promoted(name)
    return {} if version is None else {"promoted": store.located(f"{name}:{version}", dtype)}


def training_dataset(manifest: Manifest, store: Store) -> dict[str, str]:
    """The dataset that a model was trained on, if it is still here: nothing is compared on rows that one side knows."""
    ref = manifest.lineage.get("dataset")
    try:
        return {str(ref): str(store.dataset_folder(str(ref)))}
    except (NotFound, BadInput):
        return {}
