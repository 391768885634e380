"""Splits by a column of the source: rows of one group stay together, or the latest rows are the test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.splits import EXAMPLES, Leak, check_share, choose_stratified, group_of, place_of, too_few

MADE = ("test", "validation")  # in the order in which they are taken from train


@dataclass(frozen=True, slots=True)
class SplitBy:
    """The columns of a dataset that decide its splits; empty: its texts do."""

    group: str = ""
    time: str = ""

    def group_in(self, extra: Mapping[str, Json]) -> str | None:
        """The group of a row, as text; None if it has none."""
        value = extra.get(self.group) if self.group else None
        return None if value in (None, "") else str(value)

    def unit(self, stored: StoredRow[Any]) -> SplitUnit:
        """What a split must know of a row."""
        own = self.group_in(stored.extra)
        key = group_of(stored.row) if own is None else f"\0{own}"
        places = tuple(place_of(name, key)[:8] for name in MADE)
        at = time_of(stored, self.time) if self.time else 0.0
        return SplitUnit(hashlib.sha256(key.encode()).digest()[:16], places, frozenset(stored.row.kinds), at)


def split_by(options: Mapping[str, Json]) -> SplitBy:
    """The columns that a dataset's options name."""
    return SplitBy(str(options.get("group") or ""), str(options.get("time") or ""))


@dataclass(frozen=True, slots=True)
class SplitUnit:
    """What a split must know of a row: its group, where that stands in the choice for each split, labels and time."""

    group: bytes
    places: tuple[bytes, ...]
    kinds: frozenset[str]
    at: float


def choose_units(units: Sequence[SplitUnit], share: float, name: str, *, by_time: bool) -> set[int]:
    """The rows of a split by index: the latest, or a stratified choice that parts no group."""
    if by_time:
        return choose_latest([unit.at for unit in units], share, name)
    at = MADE.index(name)
    groups, kinds = [unit.group for unit in units], [unit.kinds for unit in units]
    return choose_stratified(groups, kinds, lambda i: units[i].places[at], share, name)


def choose_latest(times: Sequence[float], share: float, name: str) -> set[int]:
    """About this share of the rows, the latest ones; rows of one time stay together. BadInput if all have one time."""
    check_share(share, name)
    count = max(1, round(share * len(times)))
    first = sorted(times, reverse=True)[count - 1] if times else 0.0
    chosen = {i for i, time in enumerate(times) if time >= first}
    if len(chosen) == len(times):
        chosen = {i for i, time in enumerate(times) if time > first}
    if not chosen:
        raise too_few(len(times), share, name)
    return chosen


def time_of(stored: StoredRow[Any], column: str) -> float:
    """Seconds since 1970, of an ISO 8601 date or time (UTC where it names no zone); a number stands for itself.

    BadInput where the row has neither.
    """
    value = stored.extra.get(column)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    text = str(value or "").strip()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{stored.row.file}, line {stored.row.line:,}: {column!r} is {text[:40]!r}, no time. Write times as "
            "2026-03-31 or 2026-03-31T12:00:00, or split by another column",
            key="time",
            line=stored.row.line,
            value=text[:40],
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def column_leaks(stored: Mapping[str, Sequence[StoredRow[Any]]], by: SplitBy) -> tuple[Leak, ...]:
    """Every pair of splits that share a group, or of which the earlier one has later rows."""
    return (*_group_leaks(stored, by), *_time_leaks(stored, by))


def _group_leaks(stored: Mapping[str, Sequence[StoredRow[Any]]], by: SplitBy) -> list[Leak]:
    if not by.group:
        return []
    own = {name: [by.group_in(row.extra) for row in rows] for name, rows in stored.items()}
    found = []
    for seen_in, again_in in _pairs(stored):
        known = set(own[seen_in]) - {None}
        again = [group for group in own[again_in] if group in known]
        if again:
            examples = tuple(dict.fromkeys(str(one)[:120] for one in again))[:EXAMPLES]
            share = len(again) / len(own[again_in])
            found.append(Leak(seen_in, again_in, len(again), share, examples, f"are of a {by.group} that is"))
    return found


def _time_leaks(stored: Mapping[str, Sequence[StoredRow[Any]]], by: SplitBy) -> list[Leak]:
    if not by.time:
        return []
    dated = {name: rows for name, rows in stored.items() if all(by.time in row.extra for row in rows)}
    times = {name: [time_of(row, by.time) for row in rows] for name, rows in dated.items()}
    found = []
    for seen_in, again_in in _pairs(dated):
        latest = max(times[seen_in], default=0.0)
        early = [row for row, at in zip(dated[again_in], times[again_in], strict=True) if at < latest]
        if early and times[seen_in]:
            examples = tuple(dict.fromkeys(str(row.extra[by.time])[:120] for row in early))[:EXAMPLES]
            share = len(early) / len(times[again_in])
            found.append(Leak(seen_in, again_in, len(early), share, examples, f"are earlier by {by.time} than rows"))
    return found


def _pairs(stored: Mapping[str, object]) -> list[tuple[str, str]]:
    pairs = (("train", "validation"), ("train", "test"), ("validation", "test"))
    return [(one, other) for one, other in pairs if one in stored and other in stored]
