"""Detects the format of a data file and opens it as a table."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.recipe import Data
from llmos.abi.roots import open_below
from llmos.data.columns import is_known, is_nearly_known
from llmos.data.conll import TAG
from llmos.data.table import Table, read_delimited, read_jsonl, read_parquet

FORMATS = ("csv", "tsv", "jsonl", "parquet", "conll", "squad")
SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".conll": "conll", ".bio": "conll", ".iob": "conll",
}  # fmt: skip


def format_of(path: Path) -> str:
    """By the name's ending, else by what the first line looks like."""
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    try:
        with open_below(path) as file:
            lines = [line.decode("utf-8", "replace").strip() for line in file.read(65536).split(b"\n")]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Give the path of a file that is there") from error
    filled = [line for line in lines[:200] if line and not line.startswith("-DOCSTART-")]
    if filled and filled[0].startswith("{"):
        return "jsonl"
    if filled and filled[0].startswith("PAR1"):
        return "parquet"
    if len(filled) > 1 and all(TAG.fullmatch(line.split()[-1]) for line in filled[:-1]):
        return "conll"
    if filled and "\t" in filled[0]:
        return "tsv"
    if filled and "," in filled[0]:
        return "csv"
    raise BadInput(f"{path}: its format cannot be told from its name or its start. Name it: {', '.join(FORMATS)}")


def open_table(path: Path, form: str, data: Data, names: Collection[str] = ()) -> Table:
    """The file's rows, whatever is in them; `names` are those of columns, besides the ones that every task knows."""
    if form in ("csv", "tsv"):
        told = {name.lower() for name in (data.text, data.label) if name and not name.isdecimal()}
        told |= {part.strip() for name in told for part in name.split(",")} | set(names)
        return read_delimited(
            path,
            "," if form == "csv" else "\t",
            data.has_header,
            lambda cell: is_known(cell) or cell.lower() in told,
            is_nearly_known,
        )
    if form == "jsonl":
        return read_jsonl(path)
    if form == "parquet":
        return read_parquet(path)
    raise BadInput(f"No format {form!r}. There are: {', '.join(FORMATS)}")
