"""How a column's cells say several labels: as lists, as lists written as text, or as one text with separators."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmos.abi.json_type import Json

BAR = "|"
OTHERS = (";", ",", "#", "/")  # taken only where the values of the column show that they part labels
LONGEST_LABEL = 60
LIST = re.compile(r"\s*[\[({].*[\])}]\s*", re.DOTALL)
KEYS = ("choices", "labels", "value", "label")  # of an object that holds the labels


@dataclass(frozen=True, slots=True)
class LabelCells:
    """How labels are parted in one column; `note` says so where the file left it open."""

    separator: str = BAR
    note: str = ""

    def split(self, cell: Json) -> Json:
        """The labels of one cell as a list; what is no list stays as it is, for the check of labels to refuse."""
        cell = _unwrap(cell)
        if isinstance(cell, str):
            return [part.strip() for part in cell.split(self.separator) if part.strip()]
        return [] if cell is None else cell


def label_cells_of(cells: Sequence[Json], separator: str | None, where: str) -> LabelCells:
    """How this column's cells say several labels: by the separator that is named, by bars, or by the one other sign
    that cuts them into parts which come again."""
    if separator:
        return LabelCells(separator)
    texts = [cell for cell in map(_unwrap, cells) if isinstance(cell, str) and cell.strip()]
    if any(BAR in text for text in texts):
        return LabelCells()
    chosen = [sign for sign in OTHERS if _parts_labels(texts, sign)]
    if len(chosen) != 1:
        return LabelCells()
    note = (
        f"{where} is cut at {chosen[0]!r} into labels. If that is wrong, name the sign with the option label_separator"
    )
    return LabelCells(chosen[0], note)


def _parts_labels(texts: Sequence[str], sign: str) -> bool:
    """Whether most cells with this sign consist of short parts, each of which also stands alone or beside others."""
    cut = [tuple(part.strip() for part in text.split(sign)) for text in texts]
    beside: dict[str, set[tuple[str, ...]]] = {}
    for parts in cut:
        for part in parts:
            beside.setdefault(part, set()).add(parts)
    several = [parts for parts in cut if len(parts) > 1]
    known = [all(part and len(part) <= LONGEST_LABEL and len(beside[part]) > 1 for part in parts) for parts in several]
    return bool(known) and sum(known) * 2 > len(known)


def _unwrap(cell: Json) -> Json:
    """The list in a cell that writes it as JSON, as Python does, or as an object with one."""
    if isinstance(cell, str) and LIST.fullmatch(cell):
        cell = _literal(cell)
    if isinstance(cell, dict):
        return next((cell[key] for key in KEYS if isinstance(cell.get(key), (list, str))), cell)
    return list(cell) if isinstance(cell, (tuple, set)) else cell


def _literal(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
