"""CoNLL files: one word a line, a blank line between sentences, tags in IOB1, IOB2 or BIOES."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from llmos.abi.error import BadInput, BadRow
from llmos.data.decoding import TextSource
from llmos.data.formats.source import Source
from llmos.data.table import Item, Record, Table, bad_row, table_of

SUFFIXES = {".conll": "conll", ".bio": "conll", ".iob": "conll"}

TAG = re.compile(r"O|[BIESLU]-\S+")
DOCUMENT = "-DOCSTART-"
COMMENT = re.compile(r"#\s*[^\s=]+\s*=")  # "# text = ..." as CoNLL-U has it
BLANK = " \t\r\n"  # what parts columns and sentences; a no-break space is part of its word


def open_file(source: Source, form: str) -> Table:
    """A row for every sentence: its words, and its tags as they stand. Words are column 0 and tags the last, unless
    the user names others; the sentence's line is its first word's."""
    path, data = source.path, source.data
    places = _number(path, data.text, 0), _number(path, data.label, -1)
    return table_of(path, form, ("tokens", "tags"), _sentences(source.as_text(), *places))


def is_conll(lines: Sequence[str], *, needs_blank: bool = False, least: int = 2) -> bool:
    """Whether every line ends with a tag, but for comments and blank ones, of which one at least may be needed.

    `least`: with fewer lines it is not said to be."""
    told = [line for line in lines if not line.startswith((DOCUMENT, "# "))]
    filled = [line for line in told if line.strip(BLANK)]
    has_blank = any(not line.strip(BLANK) for line in told[: len(told) - 1])
    return (
        len(filled) >= least
        and (has_blank or not needs_blank)
        and all(len(cells) > 1 and TAG.fullmatch(cells[-1].strip(BLANK)) for cells in map(cells_of, filled))
    )


def cells_of(line: str) -> list[str]:
    """The columns of a line: tabs part them where there are any, else spaces."""
    line = line.rstrip("\r\n")
    return line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]


def _is_comment(line: str, cells: Sequence[str], width: int) -> bool:
    """A line that begins with # and is no word: it has another width than words, or is as CoNLL-U writes one."""
    if not line.startswith("#") or len(cells) == width:
        return False
    return COMMENT.match(line) is not None or (line.startswith("# ") and not TAG.fullmatch(cells[-1].strip(BLANK)))


def _sentences(text: TextSource, word_at: int, tag_at: int) -> Iterator[Item]:
    path = text.path
    words: list[str] = []
    tags: list[str] = []
    bad: BadRow | None = None
    width = start = 0
    is_none = True
    for item in chain(text.lines(), ((0, ""),)):
        if isinstance(item, BadRow):
            bad = bad or item
            continue
        number, line = item[0], item[1].rstrip("\r\n")
        if not line.strip(BLANK):
            if bad is not None:
                yield bad
            elif words:
                yield Record(start, (words, tags))
            is_none = is_none and not words and bad is None
            words, tags, bad = [], [], None
            continue
        cells = cells_of(line)
        if cells[0] == DOCUMENT or _is_comment(line, cells, width):
            continue
        width = width or len(cells)
        try:
            word, tag = _word_in(path, number, line, cells, width, word_at, tag_at)
        except BadRow as error:
            bad = bad or error
            continue
        start = start if words else number
        words.append(word)
        tags.append(tag)
    if is_none:
        raise bad_row(path, 1, "the file has no sentences", "It needs words with tags, one a line", kind="no_rows")


def _word_in(
    path: Path, number: int, line: str, cells: list[str], width: int, word_at: int, tag_at: int
) -> tuple[str, str]:
    """The word and the tag of one line; the whole sentence is a bad row where one of its lines is."""
    if len(cells) != width:
        parted = "tab" if "\t" in line else "space"
        raise bad_row(
            path,
            number,
            f"{len(cells)} columns where the first word has {width} (parted by {parted})",
            "Every line is a word and its tags, and a blank line ends a sentence",
            line,
            kind="width",
        )
    if width < 2 or not all(-width <= at < width for at in (word_at, tag_at)):
        way_out = "Name columns by numbers from 0, or from -1 at the end"
        raise bad_row(path, number, f"only {width} columns", way_out, line, kind="few_columns")
    word, tag = cells[word_at].strip(BLANK), cells[tag_at].strip(BLANK)
    if not word:
        raise bad_row(path, number, "the word is empty", "Fill it in, or remove the line", line, kind="empty")
    if not TAG.fullmatch(tag):
        way_out = "Tags are O, or B-, I-, E-, S- and a label, like B-PER"
        raise bad_row(path, number, f"{tag!r} is no tag", way_out, tag, kind="tag")
    return word, tag


@dataclass(slots=True)
class SchemeCounts:
    """How entities begin and end in the sentences so far, which tells the tagging scheme."""

    ends: int = 0
    begins: Counter[str] = field(default_factory=Counter)

    def add(self, tags: Sequence[str]) -> None:
        before = "O"
        for tag in tags:
            prefix, _, label = tag.partition("-")
            self.ends += prefix in "ESLU"
            if label and before.partition("-")[2] != label:
                self.begins[prefix] += 1
            before = tag

    @property
    def scheme(self) -> str:
        """BIOES if a tag ends an entity; else IOB1 if more entities begin with I- than with a B- that parts nothing."""
        if self.ends:
            return "BIOES"
        return "IOB1" if self.begins["I"] > self.begins["B"] else "IOB2"


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """The tagging scheme of all these sentences."""
    counts = SchemeCounts()
    for tags in sentences:
        counts.add(tags)
    return counts.scheme


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
            "Count from 0 (or from -1 at the end), or name another format",
            file=str(path),
            column=column,
        ) from error
