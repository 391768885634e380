"""Asking for labels: the strategies that choose rows, an answer as it travels, and when a model is trained anew."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import UNLABELLED

STRATEGIES = ("margin", "badge", "random")  # the first is the default: it needs the fewest labels (docs/log.md)
SPLITS = ("train", "validation", "test")  # that answered rows may become part of
MOST_TEXT = 4_096  # characters of a label, a name or a comment
LEAST_NEW = 50  # labels before a model is trained anew
GROWTH = 0.25  # of its labels: so all trainings together cost a few times the last one


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What somebody says of a row: a label, labels, or spans [start, end, label] in its words; None passes it over.

    Spans are of words, counted from 0, with the end not included.
    """

    id: str
    value: Json
    by: str = ""
    comment: str = ""

    def plain(self) -> dict[str, Json]:
        """As a line of a file of answers has it."""
        said = {"by": self.by, "comment": self.comment}
        return {"id": self.id, "value": self.value, **{key: text for key, text in said.items() if text}}


def next_training_at(labelled: int, every: int | None = None) -> int:
    """How many labelled rows there must be for the next training, after one with `labelled`.

    That is `every` more, by default a quarter more and 50 at least.
    """
    return labelled + (every or max(LEAST_NEW, math.ceil(GROWTH * labelled)))


@dataclass(frozen=True, slots=True)
class LabelledModel:
    """The newest version of the model that is trained while people label.

    `labelled` is how many labels it has learned from, `metric` its primary one, with its value on the rows it was
    measured on and the 95 % interval.
    """

    ref: str
    labelled: int
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    is_promoted: bool = False


@dataclass(frozen=True, slots=True)
class LabelTraining:
    """The newest training of that model: its process, on how many labels, and how much of it is done (0 to 1)."""

    pid: int
    state: str
    labelled: int
    share: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LabellingState:
    """How the labelling of a dataset stands; `next_at` is how many labels the next training waits for."""

    dataset: str
    labelled: int
    unlabelled: int
    model: LabelledModel | None = None
    training: LabelTraining | None = None
    next_at: int | None = None


def labels_to_learn(splits: Mapping[str, int]) -> int:
    """How many rows of a dataset with these splits have labels that a model may learn from: all but test rows."""
    return sum(splits.values()) - splits.get(UNLABELLED, 0) - splits.get("test", 0)


def read_answers(lines: Iterable[str], file: str) -> Iterator[RowAnswer]:
    """The answers of a file of JSON lines, the later one of a row and person last; BadInput that names a bad line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise _bad(file, number, f"is no JSON ({error})") from error
        if not isinstance(found, dict) or not isinstance(found.get("id"), str) or "value" not in found:
            raise _bad(file, number, 'is no answer. One is {"id": "...", "value": "the label"}')
        texts = {key: found.get(key) or "" for key in ("by", "comment")}
        if any(not isinstance(text, str) or len(text) > MOST_TEXT for text in texts.values()):
            raise _bad(file, number, f"has a `by` or `comment` that is no text of at most {MOST_TEXT:,} characters")
        yield RowAnswer(found["id"], found["value"], texts["by"], texts["comment"])


def _bad(file: str, line: int, what: str) -> BadInput:
    return BadInput(f"{file}, line {line}: it {what}", file=file, line=line)
