"""CoNLL-U: ten columns with tabs; the tags of names stand in the last, as `NER=B-PER`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from llmos.abi.error import BadRow
from llmos.data.decoding import TextSource
from llmos.data.formats.conll import TAG
from llmos.data.formats.source import Source
from llmos.data.table import Item, Record, Table, bad_row, table_of

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WORD, MISC = 1, 9
KEY = "NER"
NUMBER = re.compile(r"\d+")  # of a word; 1-2 is a range of words, 1.1 an empty node
PARTS = re.compile(r"\d+[-.]\d+")


def open_file(source: Source, form: str) -> Table:
    """A row for every sentence: its words, and the tags that the last column has under NER, or under the key that the
    user names as label. The sentence's line is its first word's."""
    key = source.data.label or KEY
    table = table_of(source.path, form, ("tokens", "tags"), _sentences(source.as_text(), key))
    table.left_out = tuple(name for name in COLUMNS if name not in ("id", "form"))[:-1]
    return table


def is_conllu(lines: Sequence[str]) -> bool:
    """Whether all lines have ten columns and a number first, but for comments and blank ones."""
    filled = [line for line in lines if line.strip() and not line.startswith("#")]
    rows = [line.split("\t") for line in filled]
    return bool(rows) and all(
        len(row) == len(COLUMNS) and (NUMBER.fullmatch(row[0]) or PARTS.fullmatch(row[0])) for row in rows
    )


def _sentences(text: TextSource, key: str) -> Iterator[Item]:
    words: list[str] = []
    tags: list[str] = []
    bad: BadRow | None = None
    start = 0
    for item in chain(text.lines(), ((0, ""),)):
        if isinstance(item, BadRow):
            bad = bad or item
            continue
        number, line = item[0], item[1].rstrip("\r\n")
        if not line.strip():
            if bad is not None:
                yield bad
            elif words:
                yield Record(start, (words, tags))
            words, tags, bad = [], [], None
            continue
        cells = line.split("\t")
        if line.startswith("#") or PARTS.fullmatch(cells[0]):
            continue
        try:
            word, tag = _word(text, number, line, cells, key)
        except BadRow as error:
            bad = bad or error
            continue
        start = start if words else number
        words.append(word)
        tags.append(tag)


def _word(text: TextSource, number: int, line: str, cells: list[str], key: str) -> tuple[str, str]:
    if len(cells) != len(COLUMNS) or not NUMBER.fullmatch(cells[0]):
        what = f"{len(cells)} columns, and CoNLL-U has ten, with tabs between"
        way_out = "Mend the line, or name the format conll for other columns"
        raise bad_row(text.path, number, what, way_out, line, kind="width")
    found = dict(part.partition("=")[::2] for part in cells[MISC].split("|"))
    if key not in found:
        what = f"the last column has no {key}=, which would be the word's tag"
        way_out = f"It has {cells[MISC]!r}. Name the key of the tags with the option label"
        raise bad_row(text.path, number, what, way_out, line, kind="no_tag")
    if not TAG.fullmatch(found[key]):
        way_out = "Tags are O, or B-, I-, E-, S- and a label, like B-PER"
        raise bad_row(text.path, number, f"{found[key]!r} is no tag", way_out, found[key], kind="tag")
    return cells[WORD], found[key]
