"""Guesses the task that a file's rows are for: only where its content decides it, otherwise the user is asked."""

from __future__ import annotations

from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.recipe import Data
from llmos.abi.task import trainable_tasks
from llmos.data.families import FAMILIES, rows_of
from llmos.data.formats import open_table


def guess_task(path: str, data: Data) -> str:
    """The one task that this file is plainly for; BadInput that names those it may be for."""
    known = trainable_tasks()
    names = frozenset(name for task in known for name in rows_of(task).column_names(task))
    table = open_table(Path(path), data, names)
    found = [task for family in FAMILIES.values() for task in family.plain_tasks(table) if task in known]
    if len(found) == 1:
        return found[0]
    said = f"may be for {' or '.join(found)}" if found else f"has the columns {', '.join(table.names)}"
    raise BadInput(
        f"{table.path.name} {said}, so its task must be named: --task {(found or ['NAME'])[0]}. There are: "
        f"{', '.join(known)}",
        key="task",
        file=path,
        expected=found or list(known),
    )
