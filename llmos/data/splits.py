"""Stratified train, validation and test splits, the labels they share, and leaks between them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.abi.row_id import fold_text
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
    """Rows of one split that are in another too: by their texts, or as `what` says."""

    seen_in: str
    again_in: str
    count: int
    share: float
    examples: tuple[str, ...]
    what: str = "are also"

    def __str__(self) -> str:
        return (
            f"{self.count:,} of the {self.again_in} rows ({self.share:.1%}) {self.what} in {self.seen_in}, "
            f"such as {self.examples[0]!r}: measured there, the model looks better than it is"
        )


Part = Callable[[list[Row], float, str], set[int]]
"""Which of these rows, by index, become the split of this name that has this share of them."""


def make_splits(
    task: str,
    train: Sequence[Row],
    validation: Sequence[Row] | None,
    test: Sequence[Row] | None,
    shares: tuple[float, float],
    part: Part | None = None,
) -> Splits:
    """The splits as given; what is not given is taken from train, by the texts alone: other seeds, the same rows.

    `part` chooses the rows that are taken; by default a stratified choice.
    """
    left, parts = list(train), {"test": test, "validation": validation}
    for name, share in zip(parts, reversed(shares), strict=True):
        if parts[name] is None:
            wanted = share * len(train) / max(1, len(left))
            chosen = (part or choose_rows)(left, wanted, name)
            parts[name] = [row for i, row in enumerate(left) if i in chosen]
            left = [row for i, row in enumerate(left) if i not in chosen]
    family = rows_of(task)
    labels = family.labels_of(task, left)
    for rows in parts.values():
        family.refuse_unknown(rows or (), labels)
    return Splits(tuple(left), tuple(parts["validation"] or ()), tuple(parts["test"] or ()), labels)


def stratified_split(rows: list[Row], share: float, name: str) -> tuple[list[Row], list[Row]]:
    """Rows less a share of them, and that share: as many of every label in it; what belongs together stays so."""
    chosen = choose_rows(rows, share, name)
    return [r for i, r in enumerate(rows) if i not in chosen], [r for i, r in enumerate(rows) if i in chosen]


def choose_rows(rows: Sequence[Row], share: float, name: str) -> set[int]:
    """A stratified choice of rows, by index; equal texts are not parted."""
    groups = [group_of(row) for row in rows]
    return choose_stratified(groups, [row.kinds for row in rows], lambda i: place_of(name, groups[i]), share, name)


def choose_stratified(
    groups_of_rows: Sequence[Hashable],
    kinds: Sequence[Collection[str]],
    place: Callable[[int], bytes],
    share: float,
    name: str,
) -> set[int]:
    """Rows by index: a share of them, and as many of every label; no group is parted.

    Of each label, those whose `place` is lowest, a hash of the group: of a file that has grown, most rows are where
    they were. BadInput if there are too few rows.
    """
    check_share(share, name)
    groups: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups_of_rows):
        groups.setdefault(group, []).append(i)
    staying = Counter(kind for row in kinds for kind in row)
    frequency = dict(staying)
    strata: dict[str, list[list[int]]] = {}
    for same in groups.values():
        own = kinds[same[0]]
        strata.setdefault(min(own, key=lambda kind: (frequency[kind], kind), default=""), []).append(same)
    chosen: set[int] = set()
    owed = 0.0
    for kind in sorted(strata):
        owed += share * sum(map(len, strata[kind]))
        for rows in sorted(strata[kind], key=lambda same: place(same[0])):
            leaving = Counter(kind for i in rows for kind in kinds[i])
            if owed >= len(rows) / 2 and all(staying[kind] > count for kind, count in leaving.items()):
                chosen.update(rows)
                staying -= leaving  # a label with no row left to train on could not be learned
                owed -= len(rows)
        owed = min(owed, 1.0)  # what a label of few large groups could not give is not asked of the next
    if not chosen and len(strata) > len(kinds) / 2 and len(kinds) > FEW_ROWS:
        raise BadInput(
            f"{len(kinds):,} rows have {len(strata):,} different labels, too few of each to take any for {name}. "
            f"If the label is in another column, name that with the option label; else give a {name} file",
            reason="too_many_labels",
            split=name,
        )
    if not chosen or len(chosen) == len(kinds):
        raise too_few(len(kinds), share, name)
    return chosen


def check_share(share: float, name: str) -> None:
    """BadInput unless the share is over 0 and under 1."""
    if not 0 < share < 1:
        raise BadInput(
            f"A {name} share of {share:.2f} cannot be taken. Give a share over 0 and under 1, or a file",
            split=name,
            value=share,
        )


def too_few(count: int, share: float, name: str) -> BadInput:
    """The error of rows from which no such share can be taken."""
    rows = "1 row is" if count == 1 else f"{count:,} rows are"
    return BadInput(
        f"{rows} too few to take {share:.0%} of them for {name}. Add rows, or give a {name} file",
        reason="too_few_rows",
        split=name,
    )


def place_of(name: str, key: str) -> bytes:
    """Where a text stands in the order of a split's choice, whatever other texts there are."""
    return hashlib.sha256(f"{name} {key}".encode()).digest()


def key_of(row: Row) -> str:
    """What makes two inputs the same: letters and signs of their texts, whatever their case, width and spaces."""
    return fold_text(" | ".join(row.texts))


def group_of(row: Row) -> str:
    """What a split must not part: equal texts, a query and its documents, a passage and its questions."""
    return fold_text(row.texts[0])


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
