"""Checks one cell of a table: a text, a label, labels or a number, with the row named in errors."""

from __future__ import annotations

import math
from datetime import date, time

from llmos.abi.json_type import Json
from llmos.data.table import Table, bad_row

MAX_TEXT_CHARS = 200_000


def text_in(table: Table, line: int, cell: Json, what: str = "text") -> str:
    if not isinstance(cell, str) or not cell.strip():
        way_out = "Fill it in, or leave such rows out with the option skip_empty (--set skip_empty=true)"
        kind = "no_text" if kind_of(cell) == "empty" else "text_type"
        raise bad_row(table.path, line, f"the {what} is {kind_of(cell)}", way_out, cell, kind=kind)
    if len(cell) > MAX_TEXT_CHARS:
        raise bad_row(
            table.path,
            line,
            f"a {what} of {len(cell):,} characters, and {MAX_TEXT_CHARS:,} is the most",
            "Cut it into several rows, or check for a quote that is not closed",
            cell,
            kind="long_text",
        )
    return cell


def number_in(table: Table, line: int, cell: Json, what: str) -> float:
    """A number that is one: nan and inf are none."""
    try:
        found = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        said = f"{cell!r}, not a number" if isinstance(cell, str) and cell.strip() else kind_of(cell)
        raise bad_row(table.path, line, f"the {what} is {said}", "Give a number, like 1 or 0.5", cell, kind="number")
    return found


def label_in(table: Table, line: int, cell: Json) -> str:
    """The label of a cell, or of its list of one."""
    if isinstance(cell, (list, tuple)) and len(cell) == 1:
        (cell,) = cell
    if isinstance(cell, (list, tuple)):
        way_out = "Give one, or train with multi_label (--multi-label)"
        raise bad_row(table.path, line, f"the cell has {len(cell)} labels", way_out, cell, kind="label_count")
    if isinstance(cell, float) and math.isfinite(cell) and cell == int(cell):
        cell = int(cell)
    if isinstance(cell, (bool, int, str)) and str(cell).strip():
        return str(cell).strip()
    raise bad_row(
        table.path, line, f"the label is {kind_of(cell)}", "Give a text or a whole number", cell, kind="label"
    )


def labels_in(table: Table, line: int, cell: Json) -> tuple[str, ...]:
    if not isinstance(cell, (list, tuple)):
        way_out = "Give a list, or text with | between them"
        raise bad_row(table.path, line, f"the labels are {kind_of(cell)}", way_out, cell, kind="labels")
    return tuple(dict.fromkeys(label_in(table, line, one) for one in cell))


def plain_value(cell: Json) -> Json:
    """A cell of any column as JSON has it: dates as ISO 8601 writes them, bytes in hexadecimal, other kinds as text."""
    if cell is None or isinstance(cell, (str, bool, int)):
        return cell
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, (list, tuple)):
        return [plain_value(one) for one in cell]
    if isinstance(cell, dict):
        return {str(key): plain_value(one) for key, one in cell.items()}
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    return cell.hex() if isinstance(cell, bytes) else str(cell)


def is_filled(cell: Json) -> bool:
    return cell is not None and cell != [] and bool(str(cell).strip())


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def kind_of(cell: Json) -> str:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "empty"
    if isinstance(cell, float) and math.isnan(cell):
        return "NaN"
    return f"of the wrong kind ({type(cell).__name__})"
