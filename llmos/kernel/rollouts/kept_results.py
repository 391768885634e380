"""Results of processes that chose rows to label: texts on which versions disagreed go from them once erased."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from llmos.abi.disagreement import EXTRA
from llmos.kernel.store import disk

FOLDER = "evaluations"  # of the home: a folder of reports for each process
RESULT = "result.json"
log = logging.getLogger(__name__)


def drop_texts(folder: Path, kept: Collection[str], pid: int | None = None) -> int:
    """Take the rows of disagreements from all results, or from this process's, but those with these ids of texts.

    Returns how many rows went; blocks for the disk. OSError where a result cannot be written.
    """
    found = folder.glob(f"*/{RESULT}") if pid is None else [folder / str(pid) / RESULT]
    return sum(_drop_from(path, kept) for path in found)


def _drop_from(path: Path, kept: Collection[str]) -> int:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return 0
    if b'"%b"' % EXTRA.encode() not in data:
        return 0
    try:
        result: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])  # Any: JSON
    except msgspec.DecodeError as error:
        log.error("the result %s is damaged: %s", path, error)
        return 0
    rows = result.get("rows")
    if not isinstance(rows, list):
        return 0
    left = [one for one in rows if not (isinstance(one, dict) and EXTRA in one) or one.get("id") in kept]
    if len(left) < len(rows):
        disk.write(path, msgspec.json.encode(result | {"rows": left}))
    return len(rows) - len(left)
