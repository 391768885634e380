"""Which columns of a table hold the text and the label: as told, by their names, or by what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput, BadRow
from llmos.finetuning.table import Table

TEXT_NAMES = (
    "text", "sentence", "review", "content", "message", "utterance", "query", "question", "body", "input", "tweet",
    "comment", "description", "tokens", "words",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "category", "class", "intent", "sentiment", "target", "topic", "tag", "tags", "ner_tags",
    "rating", "spans", "entities",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Columns:
    """Indexes into a table's rows; several texts are read as one, with a space between."""

    texts: tuple[int, ...]
    label: int

    def named(self, table: Table) -> dict[str, str]:
        return {"text": ",".join(table.names[i] for i in self.texts), "label": table.names[self.label]}


def is_known(name: str) -> bool:
    return name.lower() in TEXT_NAMES or name.lower() in LABEL_NAMES


def choose(table: Table, text: str | None, label: str | None, tagged: bool) -> Columns:
    """The columns as told or found; BadRow at the header that says which there are and how to name one."""
    label_at = _find(table, label) if label is not None else None
    texts = _texts_told(table, text, tagged) if text is not None else ()
    if label_at is None:
        label_at = _label_of(table, texts)
    if not texts:
        texts = _texts_of(table, label_at)
    if label_at in texts:
        raise BadInput(f"{table.path.name}: column {table.names[label_at]!r} cannot be both text and label")
    return Columns(texts, label_at)


def _texts_told(table: Table, text: str, tagged: bool) -> tuple[int, ...]:
    if text in table.names or tagged or "," not in text:
        return (_find(table, text),)
    return tuple(_find(table, part.strip()) for part in text.split(","))


def _find(table: Table, name: str) -> int:
    if name in table.names:
        return table.names.index(name)
    folded = [one.lower() for one in table.names]
    if folded.count(name.lower()) == 1:
        return folded.index(name.lower())
    if name.isdecimal() and int(name) < len(table.names):
        return int(name)
    raise _no_column(table, f"no column {name!r}")


def _label_of(table: Table, texts: Sequence[int]) -> int:
    by_name = _first_named(table, LABEL_NAMES, texts)
    if by_name is not None:
        return by_name
    if table.has_names and len(table.names) > 2 + len(texts):
        raise _no_column(table, "no column that is called like a label")
    return _least_varied(table, texts)


def _texts_of(table: Table, label: int) -> tuple[int, ...]:
    by_name = _first_named(table, TEXT_NAMES, (label,))
    if by_name is not None:
        return (by_name,)
    others = tuple(i for i in range(len(table.names)) if i != label)
    if not others or (table.has_names and len(others) > 1):
        raise _no_column(table, "no column that is called like a text")
    return others


def _first_named(table: Table, names: Sequence[str], taken: Sequence[int]) -> int | None:
    folded = {name.lower(): i for i, name in reversed(list(enumerate(table.names))) if i not in taken}
    return next((folded[name] for name in names if name in folded), None)


def _least_varied(table: Table, taken: Sequence[int]) -> int:
    free = [i for i in range(len(table.names)) if i not in taken]
    if not free or len(table.names) < 2:
        raise _no_column(table, "only one column, where a text and a label are needed")
    return min(free, key=lambda i: (len(set(map(str, table.column(i)))), sum(len(str(c)) for c in table.column(i))))


def _no_column(table: Table, what: str) -> BadRow:
    there = ", ".join(table.names) if table.has_names else f"no header, so numbers 0 to {len(table.names) - 1}"
    message = f"{table.path}, line 1: {what}. There are: {there}. Name them with the options text and label"
    return BadRow(message, file=str(table.path), line=1, value=list(table.names))
