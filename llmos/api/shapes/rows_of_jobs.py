"""The task of a file of rows, by the first of them: chats, preferences, prompts, or texts with labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.task import trainable_tasks

LOOK_BYTES = 1 << 20  # of the first row
COLUMNS = (  # the columns that a row has -> its task, and whether it says which of two answers is preferred
    ({"messages"}, "chat", False),
    ({"input", "preferred_output", "non_preferred_output"}, "chat", True),
    ({"chosen", "rejected"}, "chat", True),
    ({"prompt", "completion"}, "generate", False),
    ({"text", "label"}, "classify", False),
    ({"sentence", "label"}, "classify", False),
    ({"tokens", "tags"}, "tag", False),
    ({"tokens", "ner_tags"}, "tag", False),
)


def task_of_rows(path: Path, task: str | None) -> tuple[str, bool]:
    """The task, and whether the rows have preferences; BadInput if their columns say no task and none was named."""
    if task is not None and task not in trainable_tasks():
        able = ", ".join(trainable_tasks())
        raise BadInput(f"task is {task[:40]!r}; it is one of {able}", key="task", expected=trainable_tasks())
    columns = _columns(path)
    for needed, name, prefers in COLUMNS:
        if needed <= columns:
            return task or name, prefers
    if task is not None:
        return task, False
    shown = ", ".join(sorted(columns)[:8]) or "none that can be read"
    raise BadInput(
        f"The columns of training_file ({shown}) do not tell its task. Send rows with messages, or name the task",
        key="training_file",
        expected=[sorted(needed) for needed, _, _ in COLUMNS],
    )


def _columns(path: Path) -> set[str]:
    """The names of the first row's columns, of JSON lines or of a table with a header."""
    with path.open("rb") as file:
        line = file.readline(LOOK_BYTES).decode("utf-8-sig", "replace").strip()
    try:
        found = json.loads(line)
        return set(found) if isinstance(found, dict) else set()
    except (ValueError, RecursionError):
        separator = "\t" if "\t" in line else ","
        return {name.strip().lower() for name in next(csv.reader([line], delimiter=separator), [])}
