"""What a row of feedback becomes, by the family of its task: labels, spans of words, texts, preferences.

A text that is right is a row of an answer. Beside the answer that the model had given it is a preference; a rating of
that answer is a good or a bad one. Which of these a model learns is the form of the rows that it was first trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from llmos.abi.feedback import FeedbackRow, texts_of
from llmos.abi.json_type import Json
from llmos.abi.objective import PAIRED, UNPAIRED
from llmos.abi.task import Family, spec_of
from llmos.data.char_spans import CharSpan, tags_of
from llmos.data.families.preferences import form_asked
from llmos.data.feedback.choice import label_names
from llmos.data.labelling.answers import with_label
from llmos.data.row import LabelRow, PreferenceRow, Row, TagRow, TextRow, UnpairedRow
from llmos.tasks.tag import words_of

SOURCE = "feedback"  # the file of a row that no file has, and the other column with the id of its feedback
GOOD = 0.5  # a rating from 0 to 1, from which on an answer is good
UNUSED = "says nothing that these rows can hold"
Options = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class ToldFamily:
    """How a family's feedback becomes rows.

    `row_of` takes the options of the dataset, the feedback, and the row that the dataset has of this text, if it has
    one; None where the feedback says nothing that such a row can hold. `labels_in` are the labels of a value, `known`
    those that a dataset's labels name.
    """

    row_of: Callable[[Options, FeedbackRow, Row | None], Row | None]
    labels_in: Callable[[Json], list[str]] = lambda value: []
    known: Callable[[Iterable[str]], frozenset[str]] = lambda labels: frozenset()


def has_many_answers(row: Row) -> bool:
    """Whether rows of this form compare or rate answers, so that a text has many: a told one stands beside these."""
    return isinstance(row, PreferenceRow | UnpairedRow)


def is_replaced_once(row: Row) -> bool:
    """Whether the rows of a text are other right answers, of which the told one takes the place."""
    return isinstance(row, TextRow) and not has_many_answers(row)


def answer_told_of(row: Row) -> str:
    """The answer that a told row is about: the worse of a pair, or the one that is rated; else empty."""
    if isinstance(row, PreferenceRow):
        return row.rejected.strip()
    return row.answer.strip() if isinstance(row, UnpairedRow) else ""


def told_family(task: str) -> ToldFamily | None:
    """The family of a task whose feedback becomes rows; None of one whose feedback is only kept."""
    return FAMILIES.get(spec_of(task).family)


def _label_row(options: Options, told: FeedbackRow, before: Row | None) -> Row:
    bare = LabelRow({"text": texts_of(told.input)}, (), SOURCE, told.id, bool(options.get("multi_label")))
    return with_label(before if isinstance(before, LabelRow) else bare, told.value)


def _tag_row(options: Options, told: FeedbackRow, before: Row | None) -> Row:
    """Words with tags; a span that parts a word is learned as whole words, and measured on its characters."""
    words = words_of(told.input)
    spans = [CharSpan(one["start"], one["end"], one["label"]) for one in told.value]
    tags = tuple(tags_of(spans, words.offsets, Counter()))
    tokens = [words.text[start:end] for start, end in words.offsets]
    if "text" not in told.input:
        return TagRow({"tokens": tokens}, tags, SOURCE, told.id)
    places = tuple((one.start, one.end, one.label) for one in spans)
    return TagRow({"tokens": tokens}, tags, SOURCE, told.id, words.text, places)


def _text_row(options: Options, told: FeedbackRow, before: Row | None) -> Row | None:
    form = form_asked(options)
    said = told.answer if isinstance(told.answer, str) and told.answer.strip() else None
    if told.kind == "score":
        is_rating = form == UNPAIRED and said is not None and 0 <= told.value <= 1
        return UnpairedRow(told.input, str(said), SOURCE, told.id, "", told.value >= GOOD) if is_rating else None
    if form == UNPAIRED:
        return UnpairedRow(told.input, told.value, SOURCE, told.id)
    if form == PAIRED:
        is_pair = said is not None and said.strip() != told.value.strip()
        return PreferenceRow(told.input, told.value, SOURCE, told.id, "", str(said)) if is_pair else None
    return TextRow(told.input, told.value, SOURCE, told.id)


def _span_labels(value: Json) -> list[str]:
    return [str(one["label"]) for one in value]


def _span_kinds(labels: Iterable[str]) -> frozenset[str]:
    """Without the B- and I- of tags; O is none."""
    return frozenset(kind for kind in (label.partition("-")[2] for label in labels) if kind)


FAMILIES: Mapping[Family, ToldFamily] = {
    Family.LABELS: ToldFamily(_label_row, label_names, frozenset),
    Family.TAGS: ToldFamily(_tag_row, _span_labels, _span_kinds),
    Family.TEXT: ToldFamily(_text_row),
}


def in_place_of(before: Row, told: Row) -> Row:
    """The told row with the file and the line of the one that it replaces."""
    return replace(told, file=before.file, line=before.line)  # type: ignore[type-var]  # every row is a dataclass
