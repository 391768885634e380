"""One JSON document as rows: a list, an object that holds one, pandas' shapes, or objects one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json
from llmos.data.annotations import is_example, plain_example
from llmos.data.formats.grid import table_of_grid
from llmos.data.formats.source import Source
from llmos.data.json_cursor import JsonCursor
from llmos.data.table import Item, Record, Table, bad_row, table_of_objects

Element = tuple[int, Json] | BadRow
JsonRow = tuple[int, Mapping[str, Json]] | BadRow


def open_file(source: Source, form: str) -> Table:
    """A row for every element of the document's list; of one list on one line, its number stands for the line."""
    text = source.as_text()
    cursor = JsonCursor(text, f"A row of this task is {source.example}, in a list or an object a line")
    document = _Document(source, cursor)
    if cursor.peek() != "[":
        table = table_of_objects(source.path, form, document.rows())
    else:
        elements = cursor.elements()
        first = next(elements, None)
        value = None if first is None or isinstance(first, BadRow) else first[1]
        is_grid = isinstance(value, list) and not is_example(value)
        again = elements if first is None else chain((first,), elements)
        if is_grid:
            table = table_of_grid(source, form, _lists(source, again))
        else:
            table = table_of_objects(source.path, form, map(document.row, again))
    table.notes = tuple(document.notes)
    table.left_out = tuple(document.left_out)
    return table


def _lists(source: Source, elements: Iterator[Element]) -> Iterator[Item]:
    for element in elements:
        if isinstance(element, BadRow):
            yield element
        elif isinstance(element[1], list):
            yield Record(element[0], tuple(element[1]))
        else:
            way_out = "Give every row as a list, like the first"
            yield bad_row(source.path, element[0], "no list", way_out, element[1], kind="json")


@dataclass(slots=True)
class _Document:
    """One document on its way: what was read before its rows, and what is known of its shape."""

    source: Source
    cursor: JsonCursor
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def row(self, element: Element) -> JsonRow:
        if isinstance(element, BadRow):
            return element
        line, value = element
        if is_example(value):
            return line, plain_example(value)
        if isinstance(value, dict):
            return line, value
        way_out = f"Each row is an object: {self.source.example}"
        return bad_row(self.source.path, line, "no JSON object", way_out, value, kind="json")

    def rows(self) -> Iterator[JsonRow]:
        """The rows of one object, or of several one after another."""
        count = 0
        while self.cursor.peek():
            try:
                if self.cursor.peek() != "{":
                    raise self.cursor.refusal("no JSON object")
                yield from self._object_rows(count)
            except BadRow as error:
                yield error
                return
            count += 1
            if self.cursor.peek() == ",":  # a list without its brackets
                self.cursor.take(",")

    def _object_rows(self, count: int) -> Iterator[JsonRow]:
        """The object's rows by its shape; once one was a row itself, the others are."""
        cursor = self.cursor
        if count:
            line = cursor.line
            yield line, cursor.value()
            return
        line, members = cursor.line, cursor.members()
        whole: dict[str, Json] = {}
        for key in members:
            opening = cursor.peek()
            if opening == "[" and not self._is_row(whole):
                rows = self._list_rows(key, whole)
                first = next(rows, None)
                if isinstance(first, _Whole):
                    whole[key] = first.value
                    continue
                self._note_rows(key, whole)
                for row in rows if first is None else chain((first,), rows):
                    assert not isinstance(row, _Whole)  # such a list has no rows
                    yield row
                for other in members:
                    cursor.value()
                    self.left_out.append(other)
                return
            value = cursor.value()
            if not whole and opening == "{" and _is_index(key, value):
                yield line if cursor.line > line else 1, value
                for number, _ in enumerate(members, 2):
                    where = cursor.line if cursor.line > line else number
                    yield self.row((where, cursor.value()))
                return
            whole[key] = value
        yield from self._whole_rows(line, whole)

    def _is_row(self, found: Mapping[str, Json]) -> bool:
        """Whether the object has a text under a name that columns have, so that it is a row."""
        return any(isinstance(value, str) and self.source.is_column_name(key) for key, value in found.items())

    def _list_rows(self, key: str, before: Mapping[str, Json]) -> Iterator[JsonRow | _Whole]:
        """The list's objects as rows, or its lists under the names of `columns`; else the list itself, whole."""
        names: list[Json] = before.get("columns") or []
        values: list[Json] = []
        kind = ""
        for element in self.cursor.elements():
            if isinstance(element, BadRow):
                kind = "list" if kind == "list" else "object"  # not a whole list any more
                yield element
                continue
            line, value = element
            if not kind:
                kind = "object" if isinstance(value, dict) else "list" if isinstance(value, list) and names else "whole"
            if kind == "whole":
                values.append(value)
            elif kind == "list":
                yield self._with_names(line, value, names)
            else:
                yield self.row(element)
        if kind in ("whole", ""):
            yield _Whole(values)

    def _with_names(self, line: int, value: Json, names: Sequence[Json]) -> JsonRow:
        if isinstance(value, list) and len(value) == len(names):
            return line, dict(zip(map(str, names), value, strict=True))
        size = len(value) if isinstance(value, list) else type(value).__name__
        what = f"a row of {size} where columns names {len(names)}"
        return bad_row(self.source.path, line, what, "Give every row these columns", value, kind="width")

    def _note_rows(self, key: str, before: Mapping[str, Json]) -> None:
        others = [name for name in before if name not in ("columns", "index", "schema", "version")]
        self.left_out += others
        schema = before.get("schema")
        if isinstance(schema, dict) and "pandas_version" in schema:
            index = schema.get("primaryKey") or []
            self.notes.append(f"{self.source.path.name}: the rows are those of {key!r}; {index} number them")
        elif key != "data":
            self.notes.append(f"{self.source.path.name}: the rows are those of {key!r}")

    def _whole_rows(self, line: int, whole: dict[str, Json]) -> Iterator[JsonRow]:
        """Columns as objects by the numbers of rows, rows by their names, columns as lists; else one row."""
        values = list(whole.values())
        if values and all(isinstance(value, dict) and value for value in values) and not self._is_row(whole):
            keys = list(dict.fromkeys(key for value in values for key in value))
            if all(key.isdecimal() for key in keys) or any(map(self.source.is_column_name, whole)):
                for number, key in enumerate(keys, 1):
                    yield number, {name: column.get(key) for name, column in whole.items()}
            else:
                yield from enumerate(values, 1)
            return
        sizes = {len(value) if isinstance(value, list) else -1 for value in values}
        if len(whole) > 1 and len(sizes) == 1 and sizes != {-1}:
            for number, cells in enumerate(zip(*values, strict=True), 1):
                yield number, dict(zip(whole, cells, strict=True))
            return
        yield line, whole


@dataclass(frozen=True, slots=True)
class _Whole:
    """A list that holds no rows."""

    value: list[Json]


def _is_index(key: str, value: Json) -> bool:
    """Rows by their numbers: {"0": {"text": ..., "label": ...}, "1": ...}."""
    return key.isdecimal() and isinstance(value, dict) and not all(name.isdecimal() for name in value)
