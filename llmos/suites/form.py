"""Form: one input of a test as its fields of text, and what edits of them are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llmos.abi.json_type import Json
from llmos.data.noise import Edit, apply
from llmos.suites.templates import MarkedSpan

TEXT = "text"  # the field of an input that is a text alone
GAP = "\n"  # between fields that are changed together, so that a name becomes the same one in all
Edits = Mapping[str, Sequence[Edit]]  # of each field


@dataclass(frozen=True, slots=True)
class Form:
    """One input: its texts by field, and the spans that its template marks in the one text."""

    fields: tuple[tuple[str, str], ...]
    marks: tuple[MarkedSpan, ...] = ()

    @property
    def input(self) -> Json:
        """As a call sends it: a text, or its fields."""
        fields = dict(self.fields)
        return fields[TEXT] if fields.keys() == {TEXT} else fields

    def show(self) -> str:
        """For people: the text, or its fields by name."""
        if len(self.fields) == 1:
            return self.fields[0][1]
        return "; ".join(f"{name}: {text}" for name, text in self.fields)

    def with_edits(self, edits: Edits) -> Form:
        """The form after these edits; its marks are of the first text, and are not kept."""
        changed = tuple((name, apply(text, edits.get(name, ()))) for name, text in self.fields)
        return replace(self, fields=changed, marks=())

    def join_fields(self, names: Sequence[str]) -> str:
        """The texts of these fields as one."""
        return GAP.join(text for name, text in self.fields if name in names)

    def by_field(self, names: Sequence[str], edits: Sequence[Edit]) -> Edits:
        """Edits of the joined text as edits of its fields; what touches a border is left out."""
        found: dict[str, list[Edit]] = {}
        at = 0
        for name, text in self.fields:
            if name in names:
                inside = [one for one in edits if at <= one.start and one.end <= at + len(text)]
                found[name] = [Edit(one.start - at, one.end - at, one.new) for one in inside]
                at += len(text) + len(GAP)
        return {name: some for name, some in found.items() if some}
