"""Texts on which versions of a model disagreed in rollouts, as rows without a label."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llmos.abi.disagreement import EXTRA
from llmos.abi.disagreement_file import open_disagreements, texts_of
from llmos.abi.json_type import Json
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow

FILE_ARGUMENT = "disagreements_file"
SOURCE = "rollout"  # in place of a row's file


def disagreement_rows(args: Mapping[str, Json], task: str, *, is_multi: bool) -> list[StoredRow[Any]]:
    """The rows of the model that `disagreements`, or else `model`, names, the oldest first; none without a file.

    Each has the id that a dataset gives its text, and says in another column where it is from.
    """
    if not args.get(FILE_ARGUMENT):
        return []
    name = str(args.get("disagreements") or args["model"])
    with open_disagreements(Path(str(args[FILE_ARGUMENT]))) as database:
        found = [one for one in texts_of(database, name) if one.task == task]
    return [
        StoredRow(
            one.text_id,
            LabelRow({"text": one.text}, (), SOURCE, one.id, is_multi),
            {EXTRA: {**one.provenance, "count": one.count}},
        )
        for one in found
    ]


def new_rows(rows: list[StoredRow[Any]], known: Collection[str]) -> list[StoredRow[Any]]:
    """Those whose text the dataset does not have."""
    return [one for one in rows if one.id not in known]
