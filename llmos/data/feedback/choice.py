"""Which rows of feedback are learned, which are held out, and which are left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from llmos.abi.echo import is_echo
from llmos.abi.feedback import FeedbackRow
from llmos.abi.json_type import Json

LEAST_OF_LABEL = 5  # texts to learn of a label that the first rows do not have
ECHO, RARE, KNOWN = "a model's own answers", "a new label with few rows", "a text that is measured on"


def label_names(value: Json) -> list[str]:
    """The labels that a value of a task with labels has."""
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


@dataclass(slots=True)
class ChosenRows:
    """One row of feedback for each text, by the text's id, and how many rows were left out, and why.

    Where a text has many answers, one for each of these, by what `group` of `choose_rows` says.
    """

    train: dict[str, FeedbackRow] = field(default_factory=dict)
    held_out: dict[str, FeedbackRow] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def text_of(row: FeedbackRow) -> str:
    """What rows are about that say the same or contradict each other: a text."""
    return row.text_id


def choose_rows(
    rows: Sequence[FeedbackRow],
    labels: Iterable[str],
    splits: Mapping[str, str],
    accuracy: float,
    labels_in: Callable[[Json], list[str]] = label_names,
    group: Callable[[FeedbackRow], str] = text_of,
) -> ChosenRows:
    """Choose among all rows on a model, the oldest first.

    `labels` are those of the first rows, `labels_in` those of a value; `splits` says in which split of them a text is.
    Of the rows of a `group` one counts. A text that is held out, or in a split that is measured on, is never trained
    on; one that was trained on is never measured on.
    """
    chosen = ChosenRows()
    echoes = echoing_senders(rows, accuracy)
    usable = [row for row in rows if not (row.agrees and echoes & set(senders_of(row)))]
    chosen.left_out[ECHO] = len(rows) - len(usable)
    for name, row in one_of_each(usable, group).items():
        split = splits.get(row.text_id)
        if split in ("test", "validation") or (split == "train" and row.is_held_out):
            chosen.left_out[KNOWN] += 1
        elif row.is_held_out:
            chosen.held_out[name] = row
        else:
            chosen.train[name] = row
    _leave_rare(chosen, frozenset(labels), labels_in)
    chosen.left_out = +chosen.left_out
    return chosen


def echoing_senders(rows: Iterable[FeedbackRow], accuracy: float) -> frozenset[tuple[str, str]]:
    """The senders that say what the model had said more often than it is right: keys, and users by name."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        if row.agrees is not None:
            for sender in senders_of(row):
                counts[sender][not row.agrees] += 1
    return frozenset(sender for sender, (agreed, differed) in counts.items() if is_echo(agreed, differed, accuracy))


def senders_of(row: FeedbackRow) -> list[tuple[str, str]]:
    """Who sent a row: the key, which may be none, and the user if one is named."""
    return [("key", row.key), *([("user", row.by)] if row.by else [])]


def one_of_each(rows: Iterable[FeedbackRow], group: Callable[[FeedbackRow], str] = text_of) -> dict[str, FeedbackRow]:
    """Of each group the row whose value most senders gave with their last word; the latest of equally many."""
    last: dict[str, dict[str, FeedbackRow]] = defaultdict(dict)
    for row in rows:
        said = last[group(row)]
        said.pop(row.by, None)
        said[row.by] = row
    return {name: _most_said(list(said.values())) for name, said in last.items()}


def _most_said(rows: Sequence[FeedbackRow]) -> FeedbackRow:
    counts = Counter(repr(row.value) for row in rows)
    return max(rows, key=lambda row: (counts[repr(row.value)], row.id))


def _leave_rare(chosen: ChosenRows, labels: frozenset[str], labels_in: Callable[[Json], list[str]]) -> None:
    """Leave out labels that the first rows do not have, until enough texts to learn have them."""
    counts = Counter(name for row in chosen.train.values() for name in labels_in(row.value))
    known = labels | {name for name, count in counts.items() if count >= LEAST_OF_LABEL}
    if not labels:
        return
    for part in (chosen.train, chosen.held_out):
        for text_id in [text_id for text_id, row in part.items() if not known >= set(labels_in(row.value))]:
            del part[text_id]
            chosen.left_out[RARE] += 1
