"""Words with tags, one a line: CoNLL columns and CoNLL-U."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset
from llmos.data.row import TagRow

SCHEMES = ("iob2", "bioes")


def write_conll(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """A word, a tab, its tag; a blank line between sentences."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for stored in rows:
            row: TagRow = stored.row
            tags = as_bioes(row.tags) if dataset.scheme == "bioes" else row.tags
            for word, tag in zip(row.input["tokens"], tags, strict=True):
                out.write(f"{_word(stored, word, 'conll')}\t{tag}\n")
            out.write("\n")


def write_conllu(path: Path, rows: Iterable[StoredRow[Any]], dataset: ExportedDataset) -> None:
    """Ten columns, of which the second is the word and the last has its tag as `NER=`."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for stored in rows:
            row: TagRow = stored.row
            out.write(f"# sent_id = {stored.id}\n")
            tags = as_bioes(row.tags) if dataset.scheme == "bioes" else row.tags
            for number, (word, tag) in enumerate(zip(row.input["tokens"], tags, strict=True), 1):
                out.write("\t".join((str(number), _word(stored, word, "conllu"), *"_______", f"NER={tag}")) + "\n")
            out.write("\n")


def as_bioes(tags: Sequence[str]) -> list[str]:
    """IOB2 as BIOES: the last word of an entity is E, an only one S."""
    found = []
    for tag, after in zip(tags, (*tags, "O")[1:], strict=True):
        goes_on = after == f"I-{tag[2:]}"
        if tag == "O" or goes_on:
            found.append(tag)
        else:
            found.append(f"{'S' if tag[0] == 'B' else 'E'}-{tag[2:]}")
    return found


def _word(stored: StoredRow[Any], word: str, form: str) -> str:
    if any(sign in word for sign in "\t\r\n"):
        raise BadInput(
            f"{form} cannot say the word {word!r} of row {stored.id}, which has a tab or a line's end. Export as jsonl",
            format=form,
            id=stored.id,
        )
    return word
