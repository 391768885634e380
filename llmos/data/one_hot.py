"""One-hot labels: a column for each label, with 1 where a row has it and 0 where it does not."""

from __future__ import annotations

from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.columns import LABEL_NAMES, TEXT_NAMES, find
from llmos.data.table import Record, Table, bad_row

ON = (1, "1", "1.0", "true")
OFF = (0, "0", "0.0", "false")
LEAST_ROWS = 2  # that show a column to be one of zeros and ones


@dataclass(frozen=True, slots=True)
class OneHotColumns:
    """The columns of labels by their indexes, and the text's."""

    text: int
    labels: tuple[int, ...]
    note: str = ""

    def names_in(self, table: Table) -> dict[str, str]:
        return {"text": table.names[self.text], "label": ",".join(table.names[i] for i in self.labels)}

    def labels_of(self, table: Table, record: Record, *, many: bool) -> tuple[str, ...]:
        """The names of the columns that are 1; BadRow for other values, or where one label is asked for."""
        found = tuple(table.names[i] for i in self.labels if _is_on(table, record, i))
        if many or len(found) == 1:
            return found
        what = f"{len(found)} labels are 1 ({', '.join(found) or 'none'}), where a row has one"
        way_out = "Correct the row, or set the option multi_label, by which a row may have none or several"
        raise bad_row(table.path, record.line, what, way_out, list(found), kind="one_hot")


def one_hot_columns(table: Table, data: Data) -> OneHotColumns | None:
    """The columns that label names with commas between; or all of zeros and ones, where none is called like a label."""
    if data.label is not None:
        if "," not in data.label or data.label in table.names:
            return None
        labels = tuple(find(table, part.strip()) for part in data.label.split(","))
        odd = [table.names[i] for i in labels if not _is_binary(table, i)]
        if odd:
            raise BadInput(
                f"{table.path.name}: the columns {', '.join(odd)} have other values than 0 and 1. Name one column as "
                "label, or several that say for each label whether a row has it",
                file=str(table.path),
                column=odd[0],
            )
        text = _text(table, data)
        return None if text is None else OneHotColumns(text, labels)
    folded = [name.lower() for name in table.names]
    text = _text(table, data)
    if not table.has_names or text is None or any(name in LABEL_NAMES for name in folded):
        return None
    labels = tuple(i for i in range(len(folded)) if i != text and _is_binary(table, i))
    if len(labels) < 2 or len(table.sample) < LEAST_ROWS:
        return None
    names = ", ".join(table.names[i] for i in labels)
    note = (
        f"{table.path.name}: the columns {names} hold 0 and 1 alone, and are taken as labels. If that is wrong, name "
        "the label's column with the option label"
    )
    return OneHotColumns(text, labels, note)


def _text(table: Table, data: Data) -> int | None:
    if data.text is not None:
        return None if "," in data.text else find(table, data.text)
    folded = [name.lower() for name in table.names]
    return next((folded.index(name) for name in TEXT_NAMES if name in folded), None)


def _is_binary(table: Table, index: int) -> bool:
    cells = table.column(index)
    return bool(cells) and all(_plain_cell(cell) in (*ON, *OFF) for cell in cells)


def _plain_cell(cell: Json) -> Json:
    return cell.strip().lower() if isinstance(cell, str) else cell if isinstance(cell, (bool, int, float)) else None


def _is_on(table: Table, record: Record, index: int) -> bool:
    cell = _plain_cell(record.cells[index])
    if cell in ON:
        return True
    if cell in OFF:
        return False
    what = f"the label {table.names[index]} is {record.cells[index]!r}, and only 0 and 1 are known"
    raise bad_row(table.path, record.line, what, "Give 0 or 1", record.cells[index], kind="one_hot")
