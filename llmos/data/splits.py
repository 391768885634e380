"""Stratified train, validation and test splits, the labels they share, and leaks between them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.data.families import rows_of
from llmos.data.row import Row

EXAMPLES = 3
FEW_ROWS = 10  # with so many, labels of one row each say nothing of the column


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows by what they are for, and all the labels in head order."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    test: tuple[Row, ...]
    labels: tuple[str, ...]

    def by_name(self) -> dict[str, tuple[Row, ...]]:
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
            left, parts[name] = stratified_split(left, share * len(train) / max(1, len(left)), name)
    family = rows_of(task)
    labels = family.labels_of(task, left)
    for rows in parts.values():
        family.refuse_unknown(rows or (), labels)
    return Splits(tuple(left), tuple(parts["validation"] or ()), tuple(parts["test"] or ()), labels)


def stratified_split(rows: list[Row], share: float, name: str) -> tuple[list[Row], list[Row]]:
    """Rows less a share of them, and that share: as many of every label in it; what belongs together stays so.

    Of each label, those whose texts hash lowest: of a file that has grown, most rows are where they were.
    """
    if not 0 < share < 1:
        raise BadInput(
            f"A {name} share of {share:.2f} cannot be taken. Give a share over 0 and under 1, or a file",
            split=name,
            value=share,
        )
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(group_of(row), []).append(i)
    staying = Counter(kind for row in rows for kind in row.kinds)
    frequency = dict(staying)
    strata: dict[str, list[str]] = {}
    for key, same in groups.items():
        kinds = rows[same[0]].kinds
        strata.setdefault(min(kinds, key=lambda kind: (frequency[kind], kind), default=""), []).append(key)
    chosen: set[int] = set()
    owed = 0.0
    for kind in sorted(strata):
        owed += share * sum(len(groups[key]) for key in strata[kind])
        for key in sorted(strata[kind], key=lambda key: _place(name, key)):
            group = groups[key]
            leaving = Counter(kind for i in group for kind in rows[i].kinds)
            if owed >= len(group) / 2 and all(staying[kind] > count for kind, count in leaving.items()):
                chosen.update(group)
                staying -= leaving  # a label with no row left to train on could not be learned
                owed -= len(group)
        owed = min(owed, 1.0)  # what a label of few large groups could not give is not asked of the next
    if not chosen and len(strata) > len(rows) / 2 and len(rows) > FEW_ROWS:
        raise BadInput(
            f"{len(rows):,} rows have {len(strata):,} different labels, too few of each to take any for {name}. "
            f"If the label is in another column, name that with the option label; else give a {name} file",
            reason="too_many_labels",
            split=name,
        )
    if not chosen or len(chosen) == len(rows):
        raise BadInput(
            f"{len(rows):,} rows are too few to take {share:.0%} of them for {name}. Add rows, or give a {name} file",
            reason="too_few_rows",
            split=name,
        )
    return [r for i, r in enumerate(rows) if i not in chosen], [r for i, r in enumerate(rows) if i in chosen]


def _place(name: str, key: str) -> bytes:
    """Where a text stands in the order of a split's choice, whatever other texts there are."""
    return hashlib.sha256(f"{name} {key}".encode()).digest()


def key_of(row: Row) -> str:
    """What makes two inputs the same: letters and signs of their texts, whatever their case, width and spaces."""
    return fold_text(" | ".join(row.texts))


def group_of(row: Row) -> str:
    """What a split must not part: equal texts, a query and its documents, a passage and its questions."""
    return fold_text(row.texts[0])


def fold_text(text: str) -> str:
    """A text whatever its case, width and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def leaks_of(splits: Splits) -> tuple[Leak, ...]:
    """Every pair of splits that share texts."""
    named = splits.by_name()
    keys = {name: {key_of(row) for row in rows} for name, rows in named.items()}
    found = []
    for seen_in, again_in in (("train", "validation"), ("train", "test"), ("validation", "test")):
        again = [row for row in named[again_in] if key_of(row) in keys[seen_in]]
        if again:
            examples = tuple(dict.fromkeys(key_of(row)[:120] for row in again))[:EXAMPLES]
            found.append(Leak(seen_in, again_in, len(again), len(again) / len(named[again_in]), examples))
    return tuple(found)
