"""Classes that a file has as numbers: each cell becomes the name that its number stands for."""

from __future__ import annotations

from collections.abc import Mapping

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.data.table import Record, Table, bad_row
from llmos.tasks.text import quote_value

NO_CLASS = -1  # as Hugging Face's datasets writes a label that is not known


def class_names_by_column(table: Table, label: str | None, named: str | None) -> dict[int, tuple[str, ...]]:
    """The names that the file has for its columns, by their indexes; for the label's, those that the user gives."""
    found = dict(table.class_names)
    if named is not None:
        names = tuple(part.strip() for part in named.split(","))
        if label is None or len(names) < 2 or not all(names):
            raise BadInput(
                f"class_names is {named!r}. Name the classes of the label in the order of their numbers from 0, like "
                "billing,shipping,repair",
                value=named,
            )
        column = _column(table, label)
        if column in table.names:
            _refuse_without_numbers(table, column, named)
        found[column] = names
    return {table.names.index(column): names for column, names in found.items() if column in table.names}


def _refuse_without_numbers(table: Table, column: str, named: str) -> None:
    """BadInput where the column's first cells hold no number that a name could stand for."""
    place = table.names.index(column)
    cells = [cell for record in table.sample for cell in _flat(record.cells[place])]
    if cells and all(_number(cell) is None for cell in cells):
        raise BadInput(
            f"class_names is {named!r}, and column {column!r} holds no numbers but {quote_value(cells[0])}. Leave "
            "class_names out",
            key="class_names",
            value=named,
        )


def _flat(cell: Json) -> list[Json]:
    return [one for part in cell for one in _flat(part)] if isinstance(cell, list) else [cell]


def _column(table: Table, label: str) -> str:
    """The name of the label's column, which CoNLL's reader calls by its number."""
    return label if label in table.names else table.names[-1]


def with_class_names(table: Table, record: Record, names: Mapping[int, tuple[str, ...]]) -> Record:
    """The record with names instead of numbers; BadRow for a number that no name stands for."""
    cells = list(record.cells)
    for i, known in names.items():
        cells[i] = _name(table, record.line, cells[i], known)
    return Record(record.line, tuple(cells))


def _name(table: Table, line: int, cell: Json, names: tuple[str, ...]) -> Json:
    if isinstance(cell, list):
        return [_name(table, line, one, names) for one in cell]
    number = _number(cell)
    if number is None or number == NO_CLASS:
        return cell if number is None else None
    if number < len(names):
        return names[number]
    way_out = f"Correct it, or name the class with the option class_names (numbers go from 0 to {len(names) - 1})"
    raise bad_row(table.path, line, f"no class has the number {number}", way_out, cell, kind="class_number")


def _number(cell: Json) -> int | None:
    """The number of a class; None where the cell is none, and is left as it is."""
    if isinstance(cell, bool):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, str) and cell.strip().removesuffix(".0").isdecimal():
        cell = int(cell.strip().removesuffix(".0"))
    return cell if isinstance(cell, int) and cell >= NO_CLASS else None
