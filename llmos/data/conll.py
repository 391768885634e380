"""CoNLL files: one word a line, a blank line between sentences, tags in IOB1, IOB2 or BIOES."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.data.table import bad_row, text_of_file

TAG = re.compile(r"O|[BIESLU]-\S+")
DOCUMENT = "-DOCSTART-"


def read_conll(path: Path, word_column: str | None, tag_column: str | None) -> list[tuple[int, list[str], list[str]]]:
    """Sentences as (first line, words, tags as they stand); words are column 0 and tags the last, unless told."""
    word_at, tag_at = _number(path, word_column, 0), _number(path, tag_column, -1)
    sentences: list[tuple[int, list[str], list[str]]] = []
    words: list[str] = []
    tags: list[str] = []
    width = start = 0
    for number, line in enumerate((*text_of_file(path).split("\n"), ""), 1):
        cells = line.split("\t") if "\t" in line else line.split()
        if not line.strip():
            if words:
                sentences.append((start, words, tags))
            words, tags = [], []
            continue
        if cells[0] == DOCUMENT or (line.startswith("# ") and not TAG.fullmatch(cells[-1].strip())):
            continue
        width = width or len(cells)
        if len(cells) != width:
            raise bad_row(
                path,
                number,
                f"{len(cells)} columns where the first word has {width}",
                "Every line is a word and its tags, and a blank line ends a sentence",
                line,
            )
        if width < 2 or not all(-width <= at < width for at in (word_at, tag_at)):
            raise bad_row(
                path, number, f"only {width} columns", "Name columns by numbers from 0, or from -1 at the end", line
            )
        word, tag = cells[word_at].strip(), cells[tag_at].strip()
        if not word:
            raise bad_row(path, number, "the word is empty", "Fill it in, or remove the line", line)
        if not TAG.fullmatch(tag):
            raise bad_row(
                path, number, f"{tag!r} is no tag", "Tags are O, or B-, I-, E-, S- and a label, like B-PER", tag
            )
        start = start if words else number
        words.append(word)
        tags.append(tag)
    if not sentences:
        raise bad_row(path, 1, "the file has no sentences", "It needs words with tags, one a line")
    return sentences


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """BIOES if a tag ends an entity; else IOB1 if more entities begin with I- than with a B- that parts nothing."""
    begins = {"B": 0, "I": 0}
    for tags in sentences:
        before = "O"
        for tag in tags:
            prefix, _, label = tag.partition("-")
            if prefix in "ESLU":
                return "BIOES"
            if label and before.partition("-")[2] != label:
                begins[prefix] += 1
            before = tag
    return "IOB1" if begins["I"] > begins["B"] else "IOB2"


def as_iob2(tags: Sequence[str]) -> tuple[str, ...]:
    """The same entities in IOB2, from any of the schemes; an entity that starts wrongly starts with its first tag."""
    made: list[str] = []
    open_label: str | None = None
    for tag in tags:
        prefix, _, label = tag.partition("-")
        if tag == "O":
            made.append(tag)
            open_label = None
            continue
        continues = prefix in "IEL" and label == open_label
        made.append(f"{'I' if continues else 'B'}-{label}")
        open_label = None if prefix in "ESLU" else label
    return tuple(made)


def _number(path: Path, column: str | None, default: int) -> int:
    if column is None:
        return default
    try:
        return int(column)
    except ValueError as error:
        raise BadInput(
            f"{path.name} is read as CoNLL columns, which have numbers and no names: {column!r} is no number. "
            "Count from 0 (or from -1 at the end), or name another format"
        ) from error
