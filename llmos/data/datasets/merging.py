"""Joins datasets: equal ids once; a row that two of them have with different content is a conflict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmos.abi.error import BadInput, Conflict
from llmos.abi.json_type import Json
from llmos.abi.recipe import UNLABELLED
from llmos.abi.task import PREFERENCES
from llmos.data.datasets.columns import SPLITS
from llmos.data.datasets.dataset_reader import DatasetReader, row_options
from llmos.data.datasets.row_table import RowTable

PREFER = ("first", "last")
SHOWN = 5


@dataclass(frozen=True, slots=True)
class MergePlan:
    """Which rows of each dataset are kept, as arrays of booleans; how many came again; how many differed."""

    kept: list[Any]  # Any: arrays
    again_count: int
    conflict_count: int


def check_tasks(readers: Sequence[DatasetReader]) -> None:
    """BadInput unless all are for one task, and a row has one label in all of them or several in all."""
    first = readers[0]
    for other in readers[1:]:
        if other.task != first.task:
            raise BadInput(
                f"{first.ref} is for {first.task}, {other.ref} for {other.task}: they cannot be one dataset",
                task=first.task,
                other=other.task,
            )
        if row_options(other.options) != row_options(first.options):
            if other.options.get(PREFERENCES.name) != first.options.get(PREFERENCES.name):
                raise BadInput(
                    f"{first.ref} and {other.ref} have rows of different forms: {_form(first)} and {_form(other)}",
                    key=PREFERENCES.name,
                )
            raise BadInput(
                f"In one of {first.ref} and {other.ref} a row has one label, in the other several. Import one of them "
                "again with multi_label",
                key="multi_label",
            )


def _form(reader: DatasetReader) -> str:
    form = reader.options.get(PREFERENCES.name)
    return f"{form} preferences" if form else "prompts with answers"


def shared_options(readers: Sequence[DatasetReader]) -> dict[str, Json]:
    """The options that all have in common."""
    first = readers[0].options
    return {name: value for name, value in first.items() if all(one.options.get(name) == value for one in readers)}


def plan_merge(tables: Sequence[RowTable], refs: Sequence[str], prefer: str = "") -> MergePlan:
    """Keep each id once, where it comes first; Conflict where contents differ, unless `prefer` says which counts.

    A labelled row stands before the same one without a label, wherever that comes.
    """
    import numpy as np

    all_ids = np.concatenate([one.ids for one in tables])
    splits = np.concatenate([one.splits for one in tables])
    is_unlabelled = splits == SPLITS.index(UNLABELLED)
    counts = np.flatnonzero(~(is_unlabelled & np.isin(all_ids, all_ids[~is_unlabelled])))
    ids = all_ids[counts]
    contents = np.concatenate([one.contents for one in tables])[counts]
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    differs = np.zeros(len(all_ids), bool)
    differs[counts] = contents != contents[first][inverse]
    if differs.any() and not prefer:
        earlier = np.zeros(len(all_ids), np.int64)
        earlier[counts] = counts[first[inverse]]
        raise _conflict(tables, refs, all_ids, differs, earlier)
    kept = np.zeros(len(all_ids), bool)
    if prefer == PREFER[1]:
        _, last = np.unique(ids[::-1], return_index=True)
        kept[counts[len(ids) - 1 - last]] = True
    else:
        kept[counts[first]] = True
    ends = np.cumsum([len(one.ids) for one in tables])
    return MergePlan(np.split(kept, ends[:-1]), int(len(all_ids) - len(first)), int(differs.sum()))


def _conflict(tables: Sequence[RowTable], refs: Sequence[str], ids: Any, differs: Any, first: Any) -> Conflict:
    """The error of rows with different contents, with the first ids and where they are."""
    import numpy as np

    ends = np.cumsum([len(one.ids) for one in tables])
    at = np.flatnonzero(differs)
    pairs = [(refs[int(np.searchsorted(ends, one, "right"))] for one in (first[i], i)) for i in at[:SHOWN]]
    shown = [f"{int(ids[i]):016x} in {' and '.join(pair)}" for i, pair in zip(at[:SHOWN], pairs, strict=True)]
    return Conflict(
        f"Rows with the same id and another label or text: {len(at):,}, such as {'; '.join(shown)}. Say which counts: "
        "--prefer first, or --prefer last. See them: llmos data diff",
        count=len(at),
        ids=[f"{int(ids[i]):016x}" for i in at[:SHOWN]],
    )
