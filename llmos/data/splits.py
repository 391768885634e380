"""Stratified train, validation and test splits, the labels they share, and leaks between them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.error import BadInput, BadRow
from llmos.data.row import Answers, Row, WrittenText
from llmos.data.table import bad_row
from llmos.tasks import GENERATIVE
from llmos.tasks.text import quote_value

EXAMPLES = 3
OUTSIDE = "O"
FIXED = {
    "answer": ("start", "end"),
    "rerank": ("relevance",),
    "similarity": (),
    **dict.fromkeys(GENERATIVE, ()),
}  # the labels of tasks whose rows have none: what their head gives


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows by what they are for, and all the labels in head order."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    test: tuple[Row, ...]
    labels: tuple[str, ...]

    def named(self) -> dict[str, tuple[Row, ...]]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True, slots=True)
class Leak:
    """Rows of one split whose text is also in another."""

    seen_in: str
    again_in: str
    count: int
    share: float
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.count:,} of the {self.again_in} rows ({self.share:.1%}) are also in {self.seen_in}, "
            f"such as {self.examples[0]!r}: measured there, the model looks better than it is"
        )


def make_splits(
    task: str,
    train: Sequence[Row],
    validation: Sequence[Row] | None,
    test: Sequence[Row] | None,
    shares: tuple[float, float],
) -> Splits:
    """The splits as given; what is not given is taken from train, by the texts alone: other seeds, the same rows."""
    left, parts = list(train), {"test": test, "validation": validation}
    for name, share in zip(parts, reversed(shares), strict=True):
        if parts[name] is None:
            left, parts[name] = stratified_split(task, left, share * len(train) / max(1, len(left)), name)
    labels = labels_of(task, left)
    for rows in parts.values():
        refuse_unknown(task, rows or (), labels)
    return Splits(tuple(left), tuple(parts["validation"] or ()), tuple(parts["test"] or ()), labels)


def stratified_split(task: str, rows: list[Row], share: float, name: str) -> tuple[list[Row], list[Row]]:
    """Rows less a share of them, and that share: as many of every label in it; what belongs together stays so.

    Of each label, those whose texts hash lowest: of a file that has grown, most rows are where they were.
    """
    if not 0 < share < 1:
        raise BadInput(f"A {name} share of {share:.2f} cannot be taken. Give a share over 0 and under 1, or a file")
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(group_of(row), []).append(i)
    staying = Counter(kind for row in rows for kind in kinds_of(task, row))
    frequency = dict(staying)
    strata: dict[str, list[str]] = {}
    for key, same in groups.items():
        kinds = kinds_of(task, rows[same[0]])
        strata.setdefault(min(kinds, key=lambda kind: (frequency[kind], kind), default=""), []).append(key)
    chosen: set[int] = set()
    owed = 0.0
    for kind in sorted(strata):
        owed += share * sum(len(groups[key]) for key in strata[kind])
        for key in sorted(strata[kind], key=lambda key: _place(name, key)):
            group = groups[key]
            leaving = Counter(kind for i in group for kind in kinds_of(task, rows[i]))
            if owed >= len(group) / 2 and all(staying[kind] > count for kind, count in leaving.items()):
                chosen.update(group)
                staying -= leaving  # a label with no row left to train on could not be learned
                owed -= len(group)
        owed = min(owed, 1.0)  # what a label of few large groups could not give is not asked of the next
    if not chosen or len(chosen) == len(rows):
        raise BadInput(
            f"{len(rows):,} rows are too few to take {share:.0%} of them for {name}. Add rows, or give a {name} file"
        )
    return [r for i, r in enumerate(rows) if i not in chosen], [r for i, r in enumerate(rows) if i in chosen]


def _place(name: str, key: str) -> bytes:
    """Where a text stands in the order of a split's choice, whatever other texts there are."""
    return hashlib.sha256(f"{name} {key}".encode()).digest()


def labels_of(task: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """The labels in head order: numbers by size, words by letter; tags with O first."""
    if task in FIXED:
        _refuse_sameness(rows)
        return FIXED[task]
    kinds = {kind for row in rows for kind in kinds_of(task, row)}
    if task == "tag":
        kinds.discard(OUTSIDE)
        if not kinds:
            raise BadInput("No row has a tag other than O: there is nothing to learn. Give rows with tagged words")
        return (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI"))
    if len(kinds) < 2:
        only = ", ".join(kinds) or "none"
        raise BadInput(f"There is only one label ({only}), so nothing to tell apart. Add rows of another")
    if all(kind.removeprefix("-").isdecimal() for kind in kinds):
        return tuple(sorted(kinds, key=int))
    return tuple(sorted(kinds))


def refuse_unknown(task: str, rows: Iterable[Row], labels: Sequence[str]) -> None:
    """BadRow at the first label that training has not seen: a model cannot be right about it."""
    if task in FIXED:
        return
    known = {label.partition("-")[2] or OUTSIDE for label in labels} if task == "tag" else set(labels)
    for row in rows:
        for kind in kinds_of(task, row):
            if kind not in known:
                raise _unknown(row, kind, sorted(known - {OUTSIDE} if task == "tag" else known))


def _refuse_sameness(rows: Iterable[Row]) -> None:
    numbers = {row.label for row in rows}
    if any(isinstance(one, WrittenText) for one in numbers):
        return
    if any(isinstance(one, Answers) for one in numbers):
        if numbers == {Answers()}:
            raise BadInput("No question has an answer, so there is nothing to learn. Add rows with answers")
        return
    if len(numbers) < 2:
        only = ", ".join(f"{number}" for number in numbers) or "none"
        raise BadInput(
            f"Every row has the same number ({only}), so there is nothing to tell apart. Add rows of another"
        )


def _unknown(row: Row, kind: str, known: Sequence[str]) -> BadRow:
    return bad_row(
        Path(row.file),
        row.line,
        f"the label {kind!r} is in no training row",
        f"Known are: {quote_value(list(known))}. Correct it, or add rows of it to the training data",
        kind,
    )


def kinds_of(task: str, row: Row) -> set[str]:
    """The labels of a row; of tags, the kinds of entities, or O where it has none."""
    if isinstance(row.label, str):
        return {row.label}
    if not isinstance(row.label, tuple):
        return set()
    if task == "tag":
        return {tag[2:] for tag in row.label if tag != OUTSIDE} or {OUTSIDE}
    return set(row.label)


def key_of(row: Row) -> str:
    """What makes two inputs the same: letters and signs of their texts, whatever their case, width and spaces."""
    return _fold_text(" | ".join(_texts(row)))


def group_of(row: Row) -> str:
    """What a split must not part: equal texts, a query and its documents, a passage and its questions."""
    return _fold_text(_texts(row)[0])


def _texts(row: Row) -> list[str]:
    """The texts of an input, first the one that several rows may share."""
    match row.input:
        case {"query": query, "documents": documents}:
            return [query, *documents]
        case {"question": question, "passage": passage}:
            return [passage, question]
        case {"text": text, "other": other}:
            return [text, other]
        case {"prompt": prompt}:
            return [prompt]
        case {"messages": messages}:
            return [" | ".join(str(one["content"]) for one in messages)]
        case {"tokens": tokens}:
            return [" ".join(tokens)]
        case _:
            return [row.input["text"]]


def _fold_text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def leaks_of(splits: Splits) -> tuple[Leak, ...]:
    """Every pair of splits that share texts."""
    named = splits.named()
    keys = {name: {key_of(row) for row in rows} for name, rows in named.items()}
    found = []
    for seen_in, again_in in (("train", "validation"), ("train", "test"), ("validation", "test")):
        again = [row for row in named[again_in] if key_of(row) in keys[seen_in]]
        if again:
            examples = tuple(dict.fromkeys(key_of(row)[:120] for row in again))[:EXAMPLES]
            found.append(Leak(seen_in, again_in, len(again), len(again) / len(named[again_in]), examples))
    return tuple(found)
