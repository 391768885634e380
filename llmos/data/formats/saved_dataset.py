"""A folder that `datasets` has written with save_to_disk: Arrow files, and their features; or such a folder a split."""

from __future__ import annotations

import json
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.row_path import split_part
from llmos.data.byte_source import open_bytes
from llmos.data.formats.arrow import table_of_batches
from llmos.data.formats.class_names import names_in_features
from llmos.data.formats.source import Source
from llmos.data.table import Table

OF_SPLITS = "dataset_dict.json"
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def open_file(source: Source, form: str) -> Table:
    """The rows of a folder, or of the split that a part names (`folder:test`); of several, the training split."""
    folder = _split_folder(source.path)
    state = _json_of(folder / "state.json")
    files = [folder / str(one.get("filename")) for one in state.get("_data_files", ()) if isinstance(one, dict)]
    if not files or any(file.parent != folder for file in files):
        raise BadInput(f"{folder} names no files of rows in its state.json. Save it again", file=str(folder))
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise BadInput(f"{folder} is a selection of rows. Save it as flatten_indices() gives it", file=str(folder))
    table = table_of_batches(source.path, form, files)
    info = folder / "dataset_info.json"
    features = _json_of(info).get("features") if info.is_file() else None
    table.class_names = {**table.class_names, **names_in_features(features)}
    return table


def splits_of(path: str) -> dict[str, str]:
    """The paths of a folder's splits by what they are for; none where it is no folder of splits."""
    folder = Path(path)
    if not folder.is_dir() or not (folder / OF_SPLITS).is_file():
        return {}
    there = [name for name in _json_of(folder / OF_SPLITS).get("splits", ()) if (folder / str(name)).is_dir()]
    named = {use: [name for name in names if name in there] for use, names in SPLIT_NAMES.items()}
    return {use: f"{path}:{names[0]}" for use, names in named.items() if names}


def _split_folder(path: Path) -> Path:
    name, part = split_part(str(path))
    folder = Path(name)
    if part:
        folder = folder / part
    elif (folder / OF_SPLITS).is_file():
        splits = splits_of(name)
        if "train" not in splits:
            there = ", ".join(str(one) for one in _json_of(folder / OF_SPLITS).get("splits", ()))
            raise BadInput(
                f"{folder} has the splits {there}, and none is called train. Name one: {folder}:{there}",
                file=str(path),
            )
        folder = folder / split_part(splits["train"])[1]
    if not (folder / "state.json").is_file():
        raise BadInput(f"{folder} has no state.json, so it is no dataset that save_to_disk wrote", file=str(path))
    return folder


def _json_of(path: Path) -> dict[str, Json]:
    with open_bytes(path) as file:
        try:
            found = json.loads(file.read())
        except ValueError as error:
            raise BadInput(f"{path} is no JSON ({error}). Save the dataset again", file=str(path)) from error
    return found if isinstance(found, dict) else {}
