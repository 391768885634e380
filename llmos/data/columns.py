"""Chooses which column of a table is for what: as told, by their names, or by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from llmos.abi.error import BadInput, BadRow
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.table import Table

Roles = Mapping[str, tuple[str, ...]]  # what a column is for, and the names it is known by

TEXT_NAMES = (
    "text", "sentence", "review", "content", "message", "utterance", "query", "question", "body", "input", "tweet",
    "comment", "description", "tokens", "words",
)  # fmt: skip
PAIRED_NAMES = frozenset({
    "question", "sentence", "sentence1", "sentence2", "premise", "hypothesis", "passage", "context", "query",
    "document", "text1", "text2", "text_a", "text_b", "sentence_a", "sentence_b", "question1", "question2", "title",
})  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "category", "class", "intent", "sentiment", "target", "topic", "tag", "tags", "ner_tags",
    "rating", "spans", "entities",
)  # fmt: skip
LEAST_LETTERS = 8  # of a sentence in a script that writes no spaces
NEAR = 0.75  # how alike a name and a known one are, where the one is the other with a slip of the pen


@dataclass(frozen=True, slots=True)
class Columns:
    """Indexes into a table's rows; several texts are read as one, with a space between.

    `note` says which column was taken as what, where neither a name nor the user had said it.
    """

    texts: tuple[int, ...]
    label: int
    note: str = ""

    def names_in(self, table: Table) -> dict[str, str]:
        return {"text": ",".join(table.names[i] for i in self.texts), "label": table.names[self.label]}


def is_known(name: str) -> bool:
    return name.lower() in TEXT_NAMES or name.lower() in LABEL_NAMES


def is_nearly_known(name: str) -> bool:
    """Whether a name is a known one with a slip of the pen: lable, txt."""
    return bool(get_close_matches(name.lower(), (*TEXT_NAMES, *LABEL_NAMES), 1, NEAR))


def choose(table: Table, text: str | None, label: str | None, tagged: bool) -> Columns:
    """The columns as told or found; BadRow at the header that says which there are and how to name one."""
    label_at = find(table, label) if label is not None else None
    texts = _texts_told(table, text, tagged) if text is not None else ()
    if label_at is None:
        label_at = _first_named(table, LABEL_NAMES, texts)
    if not texts:
        by_name = _first_named(table, TEXT_NAMES, () if label_at is None else (label_at,))
        texts = () if by_name is None else (by_name,)
    if label_at is None or not texts:
        return _guess_missing(table, texts, label_at)
    if text is None and not tagged:
        _refuse_other_texts(table, texts, label_at)
    if label_at in texts:
        raise BadInput(
            f"{table.path.name}: column {table.names[label_at]!r} cannot be both text and label",
            file=str(table.path),
            column=table.names[label_at],
        )
    return Columns(texts, label_at)


def choose_texts(table: Table, text: str | None, *, tagged: bool) -> tuple[tuple[int, ...], str]:
    """The columns of the text where no label is read, as told or found, and a note where nothing said which it is."""
    if text is not None:
        return _texts_told(table, text, tagged), ""
    by_name = _first_named(table, TEXT_NAMES, ())
    if by_name is not None:
        if not tagged:
            label = _first_named(table, LABEL_NAMES, (by_name,))
            _refuse_other_texts(table, (by_name,), -1 if label is None else label)
        return (by_name,), ""
    if len(table.names) == 1:
        return (0,), ""
    texts = [i for i in range(len(table.names)) if _holds_texts(table.column(i), is_known=False)]
    if len(texts) != 1:
        raise _no_column(table, "no column that is called like a text", "text")
    name = table.names[texts[0]]
    return (texts[0],), f"{table.path.name}: column {name!r} is taken as the text. If that is wrong, name it: text"


def _refuse_other_texts(table: Table, texts: tuple[int, ...], label: int) -> None:
    """BadRow where a column that nobody named holds texts as well: what is read then is not for us to choose."""
    others = [
        i
        for i, name in enumerate(table.names)
        if i not in texts and i != label and _holds_texts(table.column(i), is_known=name.lower() in PAIRED_NAMES)
    ]
    if others:
        names = [table.names[i] for i in sorted((*texts, *others))]
        listed, both = " and ".join(map(repr, names)), ",".join(names)
        raise BadRow(
            f"{table.path}, line 1: the columns {listed} all hold texts. Say which is read with the option text: "
            f"--text {table.names[texts[0]]} for one, --text {both} for all, with a space between",
            file=str(table.path),
            line=1,
            value=names,
            kind="columns",
        )


def _holds_texts(cells: Sequence[Json], *, is_known: bool) -> bool:
    """Whether most cells are sentences, and not a few that come again, or names, links, times and numbers.

    A column that is known by name to be half of a pair may have sentences that come again.
    """
    filled = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    comes_again = 3 * len(set(filled)) < len(filled)
    if 2 * len(filled) < len(cells) or (comes_again and not is_known):
        return False
    return 2 * sum(map(_is_sentence, filled)) > len(filled)


def _is_sentence(text: str) -> bool:
    words = [word for word in text.split() if any(map(str.isalpha, word))]
    return len(words) > 2 or (not text.isascii() and sum(map(str.isalpha, text)) > LEAST_LETTERS)


def _guess_missing(table: Table, texts: tuple[int, ...], label: int | None) -> Columns:
    """What has no known name: the one column that is left, or what plainly holds labels; never a mere guess."""
    if len(table.names) < 2:
        raise _no_column(table, "only one column, where a text and a label are needed")
    if label is None and not texts and table.has_names and len(table.names) == 2:
        texts, label = _nearly_named(table)
    free = tuple(i for i in range(len(table.names)) if i != label and i not in texts)
    if label is None and texts:
        if len(free) != 1:
            raise _no_column(table, "no column that is called like a label", "label")
        label = free[0]
    elif label is not None and not texts:
        if not free or (table.has_names and len(free) > 1):
            raise _no_column(table, "no column that is called like a text", "text")
        texts = free
    elif label is None:
        if table.has_names and len(free) > 2:
            raise _no_column(table, "no column that is called like a label", "label")
        label = _plain_label(table)
        texts = tuple(i for i in free if i != label)
    assert label is not None
    return Columns(texts, label, _note(table, texts, label))


def _nearly_named(table: Table) -> tuple[tuple[int, ...], int | None]:
    """The two columns by names that are known ones with a slip of the pen; what is not, stays open."""
    near = [get_close_matches(name.lower(), (*TEXT_NAMES, *LABEL_NAMES), 1, NEAR) for name in table.names]
    texts = tuple(i for i, found in enumerate(near) if found and found[0] in TEXT_NAMES)
    labels = tuple(i for i, found in enumerate(near) if found and found[0] in LABEL_NAMES)
    return texts if len(texts) == 1 else (), labels[0] if len(labels) == 1 else None


def _plain_label(table: Table) -> int:
    """The column that can only be the label: far fewer different values than any other, or fewer and far shorter."""
    columns = [[str(cell) for cell in table.column(i)] for i in range(len(table.names))]
    kinds = [len(set(column)) for column in columns]
    sizes = [sum(map(len, column)) for column in columns]
    label = min(range(len(columns)), key=lambda i: (kinds[i], sizes[i]))
    for i in range(len(columns)):
        is_far = 2 * kinds[label] <= kinds[i] or (kinds[label] < kinds[i] and 3 * sizes[label] <= sizes[i])
        if i != label and not is_far:
            raise _no_column(table, "no column is called like a text or a label, and what is in them does not tell")
    return label


def _note(table: Table, texts: Sequence[int], label: int) -> str:
    def describe(i: int) -> str:
        where = "" if table.is_whole else f" in the first {len(table.sample):,} rows"
        return f"{table.names[i]!r} ({len(set(map(str, table.column(i)))):,} different values{where})"

    return (
        f"{table.path.name}: column {' and '.join(map(describe, texts))} is taken as the text, "
        f"{describe(label)} as the label. If that is wrong, name them with the options text and label"
    )


def _texts_told(table: Table, text: str, tagged: bool) -> tuple[int, ...]:
    if text in table.names or tagged or "," not in text:
        return (find(table, text),)
    return tuple(find(table, part.strip()) for part in text.split(","))


def find(table: Table, name: str) -> int:
    """The column of this name, whatever its case, or of this number."""
    if name in table.names:
        return table.names.index(name)
    folded = [one.lower() for one in table.names]
    if folded.count(name.lower()) == 1:
        return folded.index(name.lower())
    if name.isdecimal() and int(name) < len(table.names):
        return int(name)
    raise _no_column(table, f"no column {name!r}", name)


def first_of(names: Sequence[str], known: Sequence[str]) -> int | None:
    """The index of the first of the known names that is among these."""
    return next((names.index(name) for name in known if name in names), None)


def _first_named(table: Table, names: Sequence[str], taken: Sequence[int]) -> int | None:
    folded = {name.lower(): i for i, name in reversed(list(enumerate(table.names))) if i not in taken}
    return next((folded[name] for name in names if name in folded), None)


def _there_are(table: Table) -> str:
    if table.has_names:
        return f"There are: {', '.join(table.names)}"
    return f"The file has no header, so its columns are 0 to {len(table.names) - 1}"


def _no_column(table: Table, what: str, column: str | None = None) -> BadRow:
    message = f"{table.path}, line 1: {what}. {_there_are(table)}. Name them with the options text and label"
    return BadRow(message, file=str(table.path), line=1, value=list(table.names), kind="columns", column=column)


def assign_columns(table: Table, roles: Roles, data: Data) -> tuple[dict[str, int], str]:
    """Which column is for what: as told, by their names, or in the order of the roles where there is no header."""
    *texts, last = roles
    told = dict(zip(texts, (part.strip() for part in data.text.split(",")), strict=False)) if data.text else {}
    if data.text and len(told) != len(texts):
        raise BadInput(
            f"text is {data.text!r}; it names {len(texts)} columns, {' and '.join(texts)}, with a comma between",
            key="text",
            value=data.text,
            expected=texts,
        )
    if data.label:
        told[last] = data.label
    places = {role: find(table, name) for role, name in told.items()}
    folded = {name.lower(): i for i, name in reversed(list(enumerate(table.names)))}
    for role, names in roles.items():
        if role not in places:
            at = next((folded[n] for n in names if n in folded and folded[n] not in places.values()), None)
            if at is not None:
                places[role] = at
    if not table.has_names and not told and len(table.names) == len(roles):
        order = ", ".join(roles)
        return dict(zip(roles, range(len(roles)), strict=True)), (
            f"{table.path.name} has no header: its columns are taken as {order}. If that is wrong, give it one"
        )
    for role in roles:
        if role not in places:
            raise _lacking(table, role, roles)
    return {role: places[role] for role in roles}, ""


def _lacking(table: Table, role: str, roles: Roles) -> BadRow:
    *texts, last = roles
    message = (
        f"{table.path}, line 1: no column that is called like the {role} ({', '.join(roles[role][:4])} ...). "
        f"{_there_are(table)}. Name them with the options text ({','.join(texts)}, with the comma) and label ({last})"
    )
    return BadRow(message, file=str(table.path), line=1, value=list(table.names), kind="columns", column=role)
