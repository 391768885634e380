"""What becomes of answers: rows with labels, and how far several people agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.labelling import MOST_TEXT, RowAnswer
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow, TagRow
from llmos.tasks.tag import OUTSIDE

ANSWERS = "answers"  # the name of a row's other column that has them
Stored = StoredRow[Any]  # Any: a row of the task's family


@dataclass(frozen=True, slots=True)
class AnnotatorAgreement:
    """How often people who saw the same rows said the same.

    `alpha` is Krippendorff's alpha for nominal values (Krippendorff 2011), which takes rows of any number of people;
    None where no row has two answers, or all answers are the same.
    """

    rows: int
    share: float | None
    alpha: float | None


@dataclass(slots=True)
class RowAnswers:
    """The answers of several people, the last of each person to a row."""

    by_row: dict[str, dict[str, RowAnswer]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, answers: Iterable[RowAnswer]) -> None:
        for one in answers:
            self.by_row[one.id].pop(one.by, None)
            self.by_row[one.id][one.by] = one

    def apply(self, stored: Stored) -> Stored | None:
        """The row with the value that most people gave, the earlier in a tie; None if all passed it over.

        Every answer stays with the row, in its other columns.
        """
        kept = self._answers_of(stored)
        extra = {**stored.extra, ANSWERS: kept}
        values = [one["value"] for one in kept if one["value"] is not None]
        if not values:
            return None
        counts = Counter(map(repr, values))
        most = max(counts.values())
        value = next(one for one in values if counts[repr(one)] == most)
        return replace(stored, row=with_label(stored.row, value), extra=extra)

    def take_back(self, stored: Stored) -> Stored | None:
        """The row without its label, where people gave it one and all of them have passed it over since; else None."""
        before = [one for one in stored.extra.get(ANSWERS, ()) if isinstance(one, dict)]
        kept = self._answers_of(stored)
        if any(one["value"] is not None for one in kept) or all(one.get("value") is None for one in before):
            return None
        return replace(stored, row=without_label(stored.row), extra={**stored.extra, ANSWERS: kept})

    def with_comments(self, stored: Stored) -> Stored:
        """A row that all have passed over, with what they said where somebody left a comment; else as it was."""
        kept = self._answers_of(stored)
        if not any(one.get("comment") for one in kept):
            return stored
        return replace(stored, extra={**stored.extra, ANSWERS: kept})

    def _answers_of(self, stored: Stored) -> list[dict[str, Json]]:
        """The answers that the row has, with these in place of the same people's earlier ones."""
        kept = {str(one["by"]): one for one in stored.extra.get(ANSWERS, ()) if isinstance(one, dict)}
        for one in self.by_row[stored.id].values():
            kept.pop(one.by, None)
            kept[one.by] = {"by": one.by, **{key: value for key, value in one.plain().items() if key != "id"}}
        return list(kept.values())


def without_label(row: LabelRow | TagRow) -> LabelRow | TagRow:
    """The row as one that nobody has labelled yet."""
    if isinstance(row, TagRow):
        return replace(row, tags=(), spans=None if row.text is None else ())
    return replace(row, labels=())


def with_label(row: LabelRow | TagRow, value: Json) -> LabelRow | TagRow:
    """The row with this label, these labels, or these spans of words; BadInput for a value that is none."""
    if isinstance(row, TagRow):
        return _with_tags(row, value)
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) and one.strip() and len(one) <= MOST_TEXT for one in names):
        raise BadInput(f"{value!r} is no label. A label is a text", key="value", value=str(value)[:200])
    if not row.is_multi and len(names) != 1:
        raise BadInput(f"A row of this dataset has one label, and the answer has {len(names)}", key="value")
    return replace(row, labels=tuple(dict.fromkeys(one.strip() for one in names)))


def _with_tags(row: TagRow, value: Json) -> TagRow:
    words = row.input["tokens"]
    tags = [OUTSIDE] * len(words)
    for span in value if isinstance(value, list) else [value]:
        if (
            not isinstance(span, list | tuple)
            or len(span) != 3
            or not all(isinstance(one, int) and not isinstance(one, bool) for one in span[:2])
            or not isinstance(span[2], str)
            or not span[2].strip()
        ):
            raise BadInput(f"{span!r} is no span of words: [start, end, label]", key="value", value=str(span)[:200])
        start, end, label = span
        if not 0 <= start < end <= len(words) or any(tag != OUTSIDE for tag in tags[start:end]):
            raise BadInput(
                f"The span {span!r} is outside of the row's {len(words)} words, or overlaps another",
                key="value",
                value=str(span)[:200],
            )
        tags[start] = f"B-{label.strip()}"
        tags[start + 1 : end] = [f"I-{label.strip()}"] * (end - start - 1)
    places = row.offsets
    spans = tuple((places[s][0], places[e - 1][1], label.strip()) for s, e, label in sorted(map(tuple, value or [])))
    return replace(row, tags=tuple(tags), spans=None if row.text is None else spans)


def agreement(rows: Iterable[Sequence[Json]]) -> AnnotatorAgreement:
    """How far the values that several people gave to each of these rows agree; a row of one person says nothing."""
    seen = [[repr(one) for one in values] for values in rows if len(values) > 1]
    if not seen:
        return AnnotatorAgreement(0, None, None)
    same = observed = 0.0
    counts: Counter[str] = Counter()
    for values in seen:
        found, size = Counter(values), len(values)
        alike = sum(count * (count - 1) for count in found.values())
        same += alike / (size * (size - 1))
        observed += (size * (size - 1) - alike) / (size - 1)
        counts.update(values)
    total = sum(counts.values())
    expected = (total * total - sum(count * count for count in counts.values())) / (total - 1)
    alpha = None if expected == 0 else 1 - observed / expected
    return AnnotatorAgreement(len(seen), same / len(seen), alpha)
