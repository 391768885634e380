"""Feedback: what somebody says of an answer, as a row with its provenance; and which rows are held out for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmos.abi.json_type import Json
from llmos.abi.task import Family, spec_of

HELD_OUT_SHARE = 0.2  # of all texts; fixed for ever, for a row that was trained on may not be measured on later
ID_DIGITS = 8  # hexadecimal digits of a text's id that decide it
SOURCES = ("person", "outcome", "model")  # who says so: a person, what happened afterwards, or a model
MODEL = SOURCES[2]
KINDS: Mapping[Family, tuple[str, ...]] = {
    Family.LABELS: ("label",),
    Family.TAGS: ("label",),
    Family.SPANS: ("text",),
    Family.PAIRS: ("score",),
    Family.TEXT: ("text", "score"),
}
"""What may be said of an answer, by the family of its task."""
LEARNED = (Family.LABELS, Family.TAGS, Family.TEXT)  # families whose feedback becomes rows to learn


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """One row. `id` counts up and is never given twice; later feedback on a call has a new one.

    `model` is the name that learns from it, `ref` the version that answered and `answer` what it said (empty and None
    where they are not known). `kind` is label, score or text, and `value` what the answer should have been. `by` is
    the user who says so, `user` the one who made the call, `key` the id of the key, `source` person or outcome.
    `text_id` is equal for equal texts.
    """

    id: int
    at: float
    model: str
    task: str
    input: Json
    kind: str
    value: Json
    text_id: str
    ref: str = ""
    call: str = ""
    index: int = 0
    answer: Json = None
    by: str = ""
    user: str = ""
    key: str = ""
    source: str = SOURCES[0]
    is_held_out: bool = False

    @property
    def agrees(self) -> bool | None:
        """Whether the row says what the model had said; None where that is not known, or the row is a rating of it."""
        return None if self.answer is None or self.kind == "score" else same_value(self.answer, self.value)


@dataclass(frozen=True, slots=True)
class FeedbackCounts:
    """The rows of a model's name. `agreed` of the `known` rows, whose answer is known, say what the model had said."""

    model: str
    rows: int = 0
    held_out: int = 0
    known: int = 0
    agreed: int = 0
    last_id: int = 0


def is_held_out(text_id: str) -> bool:
    """Whether rows of this text are measured on and never trained on: a fixed share, and equal texts alike."""
    return int(text_id[:ID_DIGITS], 16) < HELD_OUT_SHARE * 16.0**ID_DIGITS


def texts_of(given: Json) -> str:
    """The texts of an input as one, by which equal inputs are known, as datasets have it."""
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping) and isinstance(given.get("tokens"), list | tuple):
        return " ".join(map(str, given["tokens"]))
    if isinstance(given, Mapping) and isinstance(given.get("messages"), list | tuple):
        return " | ".join(str(one.get("content")) for one in given["messages"])
    if isinstance(given, Mapping):
        return " | ".join(texts_of(one) for one in given.values())
    if isinstance(given, list | tuple):
        return " | ".join(map(texts_of, given))
    return "" if given is None else str(given)


def answer_in(output: Json, kind: str) -> Json:
    """What an output said, as feedback of this kind would say it; of a rating the text that is rated, else None."""
    if not isinstance(output, Mapping):
        return None
    if kind == "label":
        found = output.get("label")
        if found is None and "labels" in output:
            return sorted(map(str, output["labels"]))
        if found is None and "spans" in output:
            return [_span(one) for one in output["spans"]]
        return found
    message = output.get("message")
    found = message.get("content") if isinstance(message, Mapping) else output.get("text", output.get("answer"))
    return found if kind == "text" or isinstance(found, str) else None


def score_of(row: FeedbackRow) -> float | None:
    """How right the answer was, from 0 to 1, for those who compare versions; None if the row does not say.

    A label or a text says it by being what was answered, or another; a rating of a text from 0 to 1 says it itself.
    """
    if row.kind == "score":
        is_rating = isinstance(row.value, int | float) and 0 <= row.value <= 1
        return float(row.value) if is_rating and spec_of(row.task).family is Family.TEXT else None
    return None if row.agrees is None else float(row.agrees)


def same_value(answer: Json, value: Json) -> bool:
    """Whether a value says the same as an answer: lists of labels in any order."""
    if isinstance(answer, list) and isinstance(value, list) and all(isinstance(one, str) for one in (*answer, *value)):
        return sorted(answer) == sorted(value)
    if isinstance(answer, str) and isinstance(value, str):
        return answer.strip() == value.strip()
    return bool(answer == value)


def _span(one: Json) -> Json:
    return {key: one[key] for key in ("start", "end", "label") if key in one} if isinstance(one, Mapping) else one
