"""File formats, one file each: tells which one a file has, and opens it as a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from llmos.abi.error import BadInput
from llmos.abi.recipe import Data
from llmos.abi.roots import open_below
from llmos.data.columns import is_known, is_nearly_known
from llmos.data.formats import conll, delimited, jsonl, parquet, squad
from llmos.data.formats.conll import TAG
from llmos.data.formats.source import Source
from llmos.data.table import Table


class Format(Protocol):
    """What a format's file has; a new format is a new file and a line in FORMATS."""

    @property
    def SUFFIXES(self) -> Mapping[str, str]:  # noqa: N802 - a module's constant
        """Endings of names, with the format's name."""
        ...

    def open_file(self, source: Source, form: str) -> Table:
        """The file as a table; BadRow or BadInput if nothing in it can be read."""
        ...


FORMATS: Mapping[str, Format] = {
    "csv": delimited,
    "tsv": delimited,
    "jsonl": jsonl,
    "parquet": parquet,
    "conll": conll,
    "squad": squad,
}
SUFFIXES = {ending: name for form in FORMATS.values() for ending, name in form.SUFFIXES.items()}
HEAD_BYTES = 65536


def format_of(path: Path) -> str:
    """By the name's ending, else by what the first line looks like."""
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        form = _format_by_content(path)
    return "squad" if form == "jsonl" and squad.is_squad(path) else form


def _format_by_content(path: Path) -> str:
    try:
        with open_below(path) as file:
            lines = [line.decode("utf-8", "replace").strip() for line in file.read(HEAD_BYTES).split(b"\n")]
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}. Give the path of a file that is there", file=str(path)
        ) from error
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
    raise BadInput(
        f"{path}: its format cannot be told from its name or its start. Name it: {', '.join(FORMATS)}",
        file=str(path),
        expected=list(FORMATS),
    )


def open_table(path: Path, data: Data, names: Collection[str] = ()) -> Table:
    """The file as a table, whatever is in it; `names` are those of columns, besides the ones that every task knows."""
    form = data.format or format_of(path)
    if form not in FORMATS:
        raise BadInput(f"No format {form!r}. There are: {', '.join(FORMATS)}", format=form, expected=list(FORMATS))
    named = {name.lower() for name in (data.text, data.label) if name and not name.isdecimal()}
    named |= {part.strip() for name in named for part in name.split(",")} | set(names)
    source = Source(path, data, lambda cell: is_known(cell) or cell.lower() in named, is_nearly_known)
    return FORMATS[form].open_file(source, form)
