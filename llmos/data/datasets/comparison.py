"""Compares two datasets by the ids of their rows: what was added, removed, changed, and moved to another split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.data.datasets.columns import SPLITS
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.datasets.row_table import RowTable, plain_row, table_of
from llmos.data.families import rows_of

MOST_IDS = 10_000  # of a list; its count is of all
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """Ids as arrays of uint64: `changed` have another input or target, `moved` another split."""

    added: Any  # Any: arrays
    removed: Any
    changed: Any
    moved: Any
    moves: Counter[tuple[str, str]]
    same_count: int


def difference(before: RowTable, after: RowTable) -> Difference:
    """What became of the rows. Of equal texts whose targets only changed places, none counts as changed."""
    import numpy as np

    common, at, then = np.intersect1d(before.ids, after.ids, return_indices=True)
    is_changed = before.contents[at] != after.contents[then]
    is_changed &= ~_changed_places(before.contents[at], after.contents[then], is_changed)
    is_moved = before.splits[at] != after.splits[then]
    moves = zip(before.splits[at][is_moved].tolist(), after.splits[then][is_moved].tolist(), strict=True)
    return Difference(
        np.setdiff1d(after.ids, before.ids),
        np.setdiff1d(before.ids, after.ids),
        common[is_changed],
        common[is_moved],
        Counter((SPLITS[one], SPLITS[other]) for one, other in moves),
        int((~is_changed & ~is_moved).sum()),
    )


def _changed_places(before: Any, after: Any, is_changed: Any) -> Any:  # Any: arrays
    """Which of the changed rows have a content that another one had, and had one that another has."""
    import numpy as np

    old, new = before[is_changed], after[is_changed]
    found = np.zeros(len(before), bool)
    found[is_changed] = np.isin(new, old) & np.isin(old, new)
    return found


def compare(
    one: DatasetReader, other: DatasetReader, on_rows: Callable[[int], None], shown: int = SHOWN
) -> dict[str, Json]:
    """The differences as JSON, with the first rows of each kind; BadInput for datasets of different tasks."""
    columns = [rows_of(each.task).stored_columns(each.task, each.options) for each in (one, other)]
    if columns[0] != columns[1]:
        raise BadInput(
            f"{one.ref} has {', '.join(columns[0])} for {one.task}, {other.ref} {', '.join(columns[1])} for "
            f"{other.task}: their rows cannot be compared",
            task=one.task,
            other=other.task,
        )
    before, after = table_of(one, on_rows), table_of(other, on_rows)
    found = difference(before, after)
    first = {kind: _first(getattr(found, kind), shown) for kind in ("added", "removed", "changed")}
    old = _rows(one, first["removed"] | first["changed"])
    new = _rows(other, first["added"] | first["changed"])
    return {
        "before": one.ref,
        "after": other.ref,
        "rows": {"before": len(before.ids), "after": len(after.ids)},
        "same": found.same_count,
        "added": {**_ids(found.added), "rows": [new[id] for id in new if id in first["added"]]},
        "removed": {**_ids(found.removed), "rows": [old[id] for id in old if id in first["removed"]]},
        "changed": {
            **_ids(found.changed),
            "rows": [{"id": id, "before": old[id], "after": new[id]} for id in old if id in first["changed"]],
        },
        "moved": {**_ids(found.moved), "splits": {f"{a} to {b}": count for (a, b), count in found.moves.items()}},
        "labels": {
            label: {"before": before.labels[label], "after": after.labels[label]}
            for label in sorted(before.labels.keys() | after.labels.keys())
        },
    }


def _ids(found: Any) -> dict[str, Json]:  # Any: an array
    return {"count": len(found), "ids": [f"{one:016x}" for one in found[:MOST_IDS].tolist()]}


def _first(found: Any, count: int) -> set[str]:  # Any: an array
    return {f"{one:016x}" for one in found[:count].tolist()}


def _rows(reader: DatasetReader, wanted: Collection[str]) -> dict[str, Json]:
    """These rows by id, in the order of the dataset."""

    rows: dict[str, Json] = {}
    left = set(wanted)
    for split in reader.splits:
        for stored in reader.rows(split) if left else ():
            if stored.id in left:
                left.discard(stored.id)
                rows[stored.id] = plain_row(reader.task, reader.options, split, stored)
            if not left:
                break
    return rows
