"""Rows of translations as Hugging Face has them: one column whose cells hold a text for each language."""

from __future__ import annotations

from dataclasses import dataclass

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.cells import text_in
from llmos.data.table import Record, Table

COLUMN = "translation"


@dataclass(frozen=True, slots=True)
class LanguagePair:
    """The column of translations, and the languages that are translated from and into."""

    column: int
    source: str
    target: str
    others: tuple[str, ...] = ()
    note: str = ""

    def texts(self, table: Table, record: Record) -> tuple[str, str]:
        """The text and its translation; BadRow where one is missing."""
        cell = record.cells[self.column]
        found: dict[str, Json] = cell if isinstance(cell, dict) else {}
        return (
            text_in(table, record.line, found.get(self.source), f"text in {self.source}"),
            text_in(table, record.line, found.get(self.target), f"text in {self.target}"),
        )


def language_pair(table: Table, data: Data) -> LanguagePair | None:
    """The pair, where the table has such a column: the languages that text and label name, or the only two."""
    at = next((i for i, name in enumerate(table.names) if name.lower() == COLUMN), None)
    cells = [] if at is None else [cell for cell in table.column(at) if isinstance(cell, dict)]
    if at is None or not cells:
        return None
    languages = tuple(dict.fromkeys(str(key) for cell in cells for key, value in cell.items() if value is not None))
    source, target = data.text, data.label
    if len(languages) == 2:
        source = source or next(one for one in languages if one != target)
        target = target or next(one for one in languages if one != source)
    if source is None or target is None or source == target or not {source, target} <= set(languages):
        raise BadRow(
            f"{table.path}, line 1: the column {COLUMN!r} has the languages {', '.join(languages)}. Name one with the "
            "option text, from which is translated, and one with the option label, into which",
            file=str(table.path),
            line=1,
            value=list(languages),
            kind="columns",
        )
    note = ""
    if data.text is None and data.label is None:
        note = (
            f"{table.path.name}: {source!r} is taken as the language translated from, and {target!r} as the one "
            "translated into. If that is wrong, name them with the options text and label"
        )
    return LanguagePair(at, source, target, tuple(one for one in languages if one not in (source, target)), note)
