"""Excel's and Calc's sheets (.xlsx, .xlsb, .xls, .ods): one sheet's cells, its row numbers are lines."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.row_path import split_part
from llmos.data.byte_source import open_bytes
from llmos.data.formats.grid import table_of_grid
from llmos.data.formats.source import Source
from llmos.data.table import Record, Table, bad_row


def open_file(source: Source, form: str) -> Table:
    """The sheet that a part names (`rows.xlsx:Sheet2`), or the first that has rows; a note names the others."""
    try:
        import python_calamine as calamine  # an extra: only this format needs it
    except ImportError as error:
        raise BadInput(
            f"{source.path} is a sheet, which python-calamine reads, and it is not installed: pip install "
            "'llmos[excel]'. Or save the sheet as CSV",
            file=str(source.path),
            value="python-calamine",
        ) from error
    with open_bytes(source.path) as file:
        try:
            book = calamine.CalamineWorkbook.from_filelike(file)
            sheets = {name: book.get_sheet_by_name(name) for name in book.sheet_names}
        except (calamine.CalamineError, OSError, ValueError) as error:
            raise BadInput(
                f"{source.path} is no sheet that can be read ({error}). Save it as .xlsx or CSV", file=str(source.path)
            ) from error
        name, others = _choose(source, sheets)
        rows = _rows(sheets[name])
    table = table_of_grid(source, form, iter(rows))
    if others:
        table.notes = (f"{source.path.name}: rows are read from the sheet {name!r}, none from {', '.join(others)}",)
    return table


def _choose(source: Source, sheets: dict[str, Any]) -> tuple[str, list[str]]:
    """The sheet to read, and those with rows that are not; Any: calamine's own."""
    _, part = split_part(str(source.path))
    filled = [name for name, sheet in sheets.items() if sheet.total_height and sheet.total_width]
    if part and part not in sheets:
        raise BadInput(
            f"{source.path} has no sheet {part!r}. There are: {', '.join(sheets)}",
            file=str(source.path),
            value=part,
            expected=list(sheets),
        )
    if part:
        return part, []
    if not filled:
        raise bad_row(source.path, 1, "no sheet has rows", "Fill one in", kind="no_rows")
    return filled[0], filled[1:]


def _rows(sheet: Any) -> list[Record]:  # Any: calamine's own
    """The rows that are not blank. The first has the number of the first used row."""
    start = sheet.start[0] if sheet.start else 0
    rows = sheet.to_python(skip_empty_area=True)
    records = (Record(start + 1 + i, tuple(map(_cell, row))) for i, row in enumerate(rows))
    return [record for record in records if any(cell is not None and cell != "" for cell in record.cells)]


def _cell(cell: Any) -> Json:
    """Whole numbers without a point, dates and times as ISO 8601 has them."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    return str(cell) if isinstance(cell, timedelta) else cell
