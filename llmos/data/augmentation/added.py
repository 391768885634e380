"""Makes the added rows: which rows are copied how often, by which augmenter, and which copies are thrown away.

What is made of a row follows from its text and label, the seed and the training rows as a set: neither from their order
nor from the process that makes it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from llmos.abi.augmentation import MOST_COPIES, Augmentation
from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.data.augmentation.augmenter import Change, Material
from llmos.data.augmentation.families import refuse_unfit
from llmos.data.augmentation.registry import REGISTRY
from llmos.data.row import Row
from llmos.data.splits import key_of

ROWS_AT_ONCE = 64  # changed between two reports
ATTEMPTS = 4  # to change a row: each with other random numbers, and the next augmenter
REPEAT = "repeat"
UNCHANGED, HELD_OUT, KNOWN, DISAGREES = (
    "could not be changed so",
    "would have been a row of validation or test",
    "would have been a row that is there already",
    "were not labelled so by the model asked",
)

Agrees = Callable[[Sequence[Any]], Sequence[bool]]  # Any: rows of the task's family
Report = Callable[[int, int], None]  # rows changed so far, some of which may yet be thrown away, and all


@dataclass(frozen=True, slots=True)
class AddedRow:
    """A row that was made, the number of the training row it was made of, and how."""

    row: Any  # of the task's family
    parent: int
    by: str
    copy: int

    def origin(self, parents: Sequence[str], seed: int) -> dict[str, Json]:
        """Its provenance, as a dataset stores it."""
        return {"parents": list(parents), "by": self.by, "seed": seed, "copy": self.copy}


@dataclass(frozen=True, slots=True)
class AddedRows:
    """The added rows in the order of their parents; how many each augmenter made, and why others are missing."""

    rows: tuple[AddedRow, ...]
    counts: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(
        default_factory=dict
    )  # copies that were not made, by the reason of the last attempt

    def digest(self) -> str:
        """What identifies the rows that were made."""
        seen = hashlib.sha256()
        for one in self.rows:
            seen.update(one.row.identity.encode(errors="surrogatepass"))
        return seen.hexdigest()


@dataclass(frozen=True, slots=True)
class _Wanted:
    parent: int
    copy: int
    seed: str  # of its text and label


def add_rows(
    material: Material,
    how: Augmentation,
    held_out: Collection[str],
    agrees: Mapping[str, Agrees] | None = None,
    report: Report | None = None,
) -> AddedRows:
    """Changed copies of the material's rows; none has a text of `held_out`, the keys of validation and test rows.

    `agrees` says by augmenter which changed rows are kept, such as those that a model labels as they are labelled.
    """
    names = how.by or (REPEAT,)
    refuse_unfit(material.task, names)
    changes = {name: REGISTRY[name].prepare(material) for name in names}
    copies = copies_of(material.rows, how)
    prints = [hashlib.sha256(row.identity.encode(errors="surrogatepass")).hexdigest() for row in material.rows]
    pending = [_Wanted(i, copy, prints[i]) for i, count in enumerate(copies) for copy in range(count)]
    known = _Known(material.rows, held_out)
    made: list[AddedRow] = []
    total, reasons = len(pending), Counter[str]()
    count = _Count(total, report)
    for attempt in range(ATTEMPTS):
        count.begin(len(made))
        found = _attempt(pending, attempt, names, changes, material.rows, how, count)
        kept, reasons = known.choose(pending, found, agrees or {}, names, attempt)
        made += kept
        done = {(one.parent, one.copy) for one in kept}
        pending = [one for one in pending if (one.parent, one.copy) not in done]
        if not pending:
            break
    made.sort(key=lambda one: (one.parent, one.copy))
    return AddedRows(tuple(made), dict(Counter(one.by for one in made)), {k: n for k, n in reasons.items() if n})


def _name_at(one: _Wanted, attempt: int, names: Sequence[str]) -> str:
    """The augmenters in turn, from one that the row's hash chooses."""
    return names[(int(one.seed[:8], 16) + one.copy + attempt) % len(names)]


def _attempt(
    pending: Sequence[_Wanted],
    attempt: int,
    names: Sequence[str],
    changes: Mapping[str, Change],
    rows: Sequence[Any],  # Any: as Agrees
    how: Augmentation,
    count: _Count,
) -> list[Any]:
    """A changed row for each that is wanted, or None."""
    found: list[Any] = [None] * len(pending)
    for name in names:
        mine = [i for i, one in enumerate(pending) if _name_at(one, attempt, names) == name]
        for start in range(0, len(mine), ROWS_AT_ONCE):
            some = mine[start : start + ROWS_AT_ONCE]
            rngs = [Random(f"{how.seed} {name} {pending[i].copy} {attempt} {pending[i].seed}") for i in some]
            changed = changes[name]([rows[pending[i].parent] for i in some], rngs, how.strength)
            for i, row in zip(some, changed, strict=True):
                found[i] = row
            count.add(sum(row is not None for row in changed))
    return found


@dataclass(slots=True)
class _Count:
    """How many rows were changed; it never goes back, though rows are thrown away and made anew."""

    total: int
    report: Report | None
    now: int = 0
    reported: int = 0

    def begin(self, made: int) -> None:
        """An attempt begins with so many rows made."""
        self.now = made

    def add(self, changed: int) -> None:
        self.now += changed
        self.reported = max(self.reported, self.now)
        if self.report is not None:
            self.report(self.reported, self.total)


class _Known:
    """The texts that no added row may have: those of held-out rows, of other training rows, of other added rows."""

    def __init__(self, rows: Sequence[Row], held_out: Collection[str]) -> None:
        self.rows, self.held_out = rows, held_out
        self.keys = {key_of(row) for row in rows}
        self.exact = {row.identity for row in rows}
        self.owner: dict[str, str] = {}  # of the key of each added row: its parent's key

    def choose(
        self,
        pending: Sequence[_Wanted],
        found: Sequence[Any],  # Any: as Agrees
        agrees: Mapping[str, Agrees],
        names: Sequence[str],
        attempt: int,
    ) -> tuple[list[AddedRow], Counter[str]]:
        """The rows of an attempt that may be added, and why the others may not."""
        reasons = Counter[str]()
        open_to = []
        for one, row in zip(pending, found, strict=True):
            by = _name_at(one, attempt, names)
            reason = UNCHANGED if row is None else self._refusal(row, self.rows[one.parent], repeats=by == REPEAT)
            if reason:
                reasons[reason] += 1
            else:
                open_to.append((one, AddedRow(row, one.parent, by, one.copy)))
        for name, is_kept in agrees.items():
            mine = [added for _, added in open_to if added.by == name]
            kept = dict(zip(map(id, mine), is_kept([one.row for one in mine]) if mine else (), strict=True))
            reasons[DISAGREES] += sum(not agreed for agreed in kept.values())
            open_to = [(one, added) for one, added in open_to if kept.get(id(added), True)]
        chosen = []
        for one, added in sorted(open_to, key=lambda pair: (pair[0].seed, pair[0].copy, pair[0].parent)):
            reason = self._refusal(added.row, self.rows[one.parent], repeats=added.by == REPEAT)
            if reason:
                reasons[reason] += 1
                continue
            chosen.append(added)
            if added.by != REPEAT:
                self.exact.add(added.row.identity)
                self.owner[key_of(added.row)] = key_of(self.rows[one.parent])
        return chosen, reasons

    def _refusal(self, row: Row, parent: Row, *, repeats: bool) -> str:
        key, own = key_of(row), key_of(parent)
        if key in self.held_out:
            return HELD_OUT
        if repeats:
            return ""
        if row.identity in self.exact or (key in self.keys and key != own) or self.owner.get(key, own) != own:
            return KNOWN
        return ""


def copies_of(rows: Sequence[Row], how: Augmentation) -> list[int]:
    """How many copies are made of each row; BadInput where no row has a label that is named, or rows have no labels."""
    chosen = [i for i, row in enumerate(rows) if not how.only_labels or row.kinds & set(how.only_labels)]
    if not chosen:
        known = ", ".join(sorted({kind for row in rows for kind in row.kinds})[:20]) or "none"
        raise BadInput(
            f"No training row has a label of {', '.join(how.only_labels)}. There are: {known}",
            key="only_labels",
            value=list(how.only_labels),
        )
    copies = [0] * len(rows)
    if how.balance:
        for i, count in _balancing(rows, chosen, how).items():
            copies[i] = count
        return copies
    for i in chosen:
        copies[i] = how.copies if _share_place(rows[i], how.seed) < how.share else 0
    return copies


def _share_place(row: Row, seed: int) -> float:
    """Where a row stands from 0 to 1 in the order of choice, whatever other rows there are."""
    found = hashlib.sha256(f"{seed} share {row.identity}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(found[:8], "big") / 2**64


def _balancing(rows: Sequence[Row], chosen: Sequence[int], how: Augmentation) -> dict[int, int]:
    """Copies of the rows of each label until it has as many rows as the most frequent; a row counts for its rarest."""
    frequency = Counter(kind for row in rows for kind in row.kinds)
    if not frequency:
        raise BadInput("These rows have no labels to balance. Leave balance out", key="balance", value=True)
    strata: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        strata.setdefault(min(row.kinds, key=lambda kind: (frequency[kind], kind)), []).append(i)
    most = max(map(len, strata.values()))
    copies: dict[int, int] = {}
    for label in sorted(strata):
        mine = sorted(set(strata[label]) & set(chosen), key=lambda i: (_share_place(rows[i], how.seed), i))
        owed = most - len(strata[label])
        for nth, i in enumerate(mine):
            copies[i] = min(MOST_COPIES, owed // len(mine) + (nth < owed % len(mine)))
    return copies
