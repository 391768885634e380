"""Rows that cannot be used: all of one file are found in one reading, counted by kind, and the first ones listed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from llmos.abi.error import BadRow
from llmos.abi.json_type import Json

LISTED = 20  # rows that the error names, each with its line and value


@dataclass(slots=True)
class BadRows:
    """The bad rows of one file so far; of each kind, the first stands for the others."""

    first: list[BadRow] = field(default_factory=list)
    by_kind: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    _examples: dict[str, BadRow] = field(default_factory=dict)

    def add(self, error: BadRow) -> None:
        kind = str(error.detail.get("kind", "other"))
        self.by_kind[kind] += 1
        self._examples.setdefault(kind, error)
        if len(self.first) < LISTED:
            self.first.append(error)
            self.lines.setdefault(kind, []).append(int(error.detail.get("line", 0)))

    @property
    def count(self) -> int:
        return self.by_kind.total()

    def error(self, path: str, rows: int) -> BadRow:
        """One error for all: the bad row's own where there is one, else every kind with its count, lines and way out.

        `rows` is how many there were in all; detail: file, line, value, count, kinds, rows.
        """
        first = self.first[0]
        if self.count == 1:
            return first
        kinds = "\n".join(self._describe(kind) for kind in self.by_kind)
        return BadRow(
            f"{path}: {self.count:,} of {rows:,} rows cannot be used.\n{kinds}\n{_way_out(self.count, rows)}",
            **{key: first.detail[key] for key in ("file", "line", "value", "kind")},
            count=self.count,
            kinds=dict(self.by_kind),
            rows=self.list_first(),
        )

    def list_first(self) -> list[dict[str, Json]]:
        """The first bad rows, each with line, kind, problem and value."""
        return [{key: one.detail.get(key) for key in ("line", "kind", "problem", "value")} for one in self.first]

    def _describe(self, kind: str) -> str:
        """One kind on one line: how many, which lines, the first one's problem, and what to do."""
        example, count = self._examples[kind].detail, self.by_kind[kind]
        lines = self.lines.get(kind) or [example.get("line", 0)]
        more = " ..." if count > len(lines) else ""
        numbers = ", ".join(f"{line:,}" for line in lines)
        return f"  {count:,}: {example.get('problem')} (line {numbers}{more}). {example.get('way_out')}"


def _way_out(bad: int, rows: int) -> str:
    if bad == rows:
        return "No row is left: mend the file, or say how it is read with the options format, text and label"
    return "Mend the file, or leave these rows out with the option on_bad_row: skip (--on-bad-row skip)"
