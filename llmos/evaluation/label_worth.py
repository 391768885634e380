"""What a cheap model believes of unlabelled rows, and how good it is: heads on the frozen vectors of a base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmos.abi.json_type import Json
from llmos.abi.task import Family, spec_of
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.families import rows_of
from llmos.evaluation.linear_head import LinearHead, calibrate_head, choose_penalty, fit, fold_numbers
from llmos.evaluation.statistics.intervals import wilson
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.nn.kept_vectors import KeptVectors
from llmos.tasks.tag import OUTSIDE, spans_of

FOLDS = 5
LEAST_ROWS = 10  # labelled, of two labels at least: with fewer a head says nothing
ENOUGH_ROWS = 100  # with fewer the penalty is not chosen, for the choice would be chance
FEW_PENALTY = 0.1
SHOWN = 5  # suggestions for a row
NEXT = 50  # labels, of which it is said what they should bring
HALVES = 3
Z = 1.96
UNKNOWN = -1  # the number of a label that no labelled row has: whatever is answered is wrong
UNSURE_WORDS = 3  # of a sentence: its least certain words stand for it

Stored = StoredRow[Any]  # Any: a row of the task's family
Floats = NDArray[Any]  # Any: float32 or float64
Numbers = NDArray[Any]  # Any: label numbers
OnDone = Callable[[int, int], None]
Encoder = FrozenEncoder | KeptVectors


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A value that a row may have: a label, labels, or spans of words; and how likely it is."""

    value: Json
    confidence: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """How good a head on these labels is, with its 95 % interval, and what `NEXT` more labels should add to that."""

    metric: str
    value: float
    low: float
    high: float
    rows: int
    where: str
    gain: tuple[float, float] | None = None

    @property
    def sentence(self) -> str:
        value = f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"
        said = f"{self.metric.capitalize()} about {value} on {self.rows:,} {self.where}"
        if self.gain is None:
            return f"{said}."
        least, most = (100 * one for one in self.gain)
        return f"{said}; {NEXT} more labels should add {least:+.1f} to {most:+.1f} points."


@dataclass(frozen=True, slots=True, eq=False)
class Beliefs:
    """Of the unlabelled rows: vectors [rows, size], and probabilities [rows, labels] where a head could be fitted.

    For tags the probabilities are of two cases, that the least certain words are right and that they are not.
    """

    vectors: Floats
    labels: tuple[str, ...] = ()
    probabilities: Floats | None = None
    suggestions: Sequence[Sequence[Suggestion]] = ()
    estimate: Estimate | None = None
    right: Mapping[str, float] = field(default_factory=dict)  # id of a labelled row that was held out -> was it right

    def suggestions_of(self, at: int) -> Sequence[Suggestion]:
        """The likeliest values of this row, the first is the likeliest."""
        return self.suggestions[at] if self.suggestions else ()

    def of_rows(self, places: Sequence[int]) -> Beliefs:
        """Of these rows alone."""
        return replace(
            self,
            vectors=self.vectors[places],
            probabilities=None if self.probabilities is None else self.probabilities[places],
            suggestions=[self.suggestions[at] for at in places] if self.suggestions else (),
        )


def believe(
    encoder: Encoder,
    task: str,
    splits: Mapping[str, Sequence[Stored]],
    pool: Sequence[Stored],
    on_done: OnDone = lambda done, total: None,
) -> Beliefs:
    """Fit a head on the rows of `train` and `validation`, and ask it about the pool; `test` rows only measure it."""
    known = [*splits.get("train", ()), *splits.get("validation", ())]
    work = _tags if spec_of(task).family is Family.TAGS else _labels
    return work(encoder, task, known, list(splits.get("test", ())), pool, on_done)


def _labels(
    encoder: Encoder,
    task: str,
    known: Sequence[Stored],
    test: Sequence[Stored],
    pool: Sequence[Stored],
    on_done: OnDone,
) -> Beliefs:
    rows = [*pool, *known, *test]
    texts = [row.row.texts[0] for row in rows]
    vectors = encoder.texts(texts, on_done=lambda done: on_done(done, len(rows)))
    own, learned, measured = np.split(vectors, [len(pool), len(pool) + len(known)])
    names = tuple(sorted({kind for row in known for kind in row.row.kinds}))
    if len(known) < LEAST_ROWS or len(names) < 2:
        return Beliefs(own, names)
    index = {name: i for i, name in enumerate(names)}
    is_many = known[0].row.is_multi
    given = _targets(known, index, is_many=is_many)
    l2 = _penalty(learned, given, len(names))
    head = _fit(learned, given, len(names), l2)
    found = head.probabilities(own)
    right = _is_right if not is_many else _are_right
    if test:
        wanted = _targets(test, index, is_many=is_many)
        folds = [(np.ones(len(known), bool), measured, wanted)]
        held = [row.id for row in test]
        where = TEST_ROWS
    else:
        fold_of = fold_numbers(given, folds=FOLDS, seed=0)
        folds = [
            (fold_of != i, learned[fold_of == i], given[fold_of == i]) for i in range(FOLDS) if (fold_of == i).any()
        ]
        held = [known[at].id for i in range(FOLDS) for at in np.flatnonzero(fold_of == i).tolist()]
        where = NOT_LEARNED
    estimate, hits = _estimate("accuracy", head, learned, given, folds, len(names), l2, right, where)
    suggestions = [suggest(one, names, is_many=is_many) for one in found]
    return Beliefs(own, names, found, suggestions, estimate, dict(zip(held, hits.tolist(), strict=True)))


def _targets(rows: Sequence[Stored], index: Mapping[str, int], *, is_many: bool) -> Numbers:
    if not is_many:
        return np.array([index.get(row.row.labels[0], UNKNOWN) for row in rows])
    made = np.zeros((len(rows), len(index)), dtype=np.float32)
    for i, row in enumerate(rows):
        made[i, [index[name] for name in row.row.labels if name in index]] = 1
        if not row.row.kinds <= index.keys():
            made[i] = UNKNOWN
    return made


def _penalty(x: Floats, y: Numbers, classes: int) -> float:
    if len(x) < ENOUGH_ROWS:
        return FEW_PENALTY
    return choose_penalty(x, y, fold_numbers(y, folds=FOLDS, seed=0) != 0, classes=classes)


def _fit(x: Floats, y: Numbers, classes: int, l2: float) -> LinearHead:
    """A head at the temperature that fits rows it did not learn from, where there are enough to tell."""
    head = fit(x, y, classes=classes, l2=l2)
    if len(x) < ENOUGH_ROWS:
        return head
    is_held = fold_numbers(y, folds=FOLDS, seed=0) == 0
    part = calibrate_head(fit(x[~is_held], y[~is_held], classes=classes, l2=l2), x[is_held], y[is_held])
    return replace(head, temperature=part.temperature)


def _is_right(head: LinearHead, x: Floats, y: Numbers) -> Floats:
    return np.asarray(head.logits(x).argmax(axis=1) == y, dtype=float)


def _are_right(head: LinearHead, x: Floats, y: Numbers) -> Floats:
    return np.asarray((((head.logits(x) > 0) == (y > 0)) & (y != UNKNOWN)).all(axis=1), dtype=float)


def _estimate(
    metric: str,
    head: LinearHead,
    x: Floats,
    y: Numbers,
    folds: Sequence[tuple[NDArray[np.bool_], Floats, Numbers]],
    classes: int,
    l2: float,
    right: Callable[[LinearHead, Floats, Numbers], Floats],
    where: str,
) -> tuple[Estimate, Floats]:
    """The metric over these parts, and which of their rows are right; what more labels add is told from heads of half
    of the rows."""
    whole: list[Floats] = []
    half: list[Floats] = []
    generator = np.random.default_rng(0)
    for is_train, held, wanted in folds:
        places = np.flatnonzero(is_train)
        on_part = head if len(places) == len(x) else fit(x[places], y[places], classes=classes, l2=l2)
        whole.append(right(on_part, held, wanted))
        halves = [generator.permutation(places)[: max(2, len(places) // 2)] for _ in range(HALVES)]
        half.append(np.mean([right(fit(x[i], y[i], classes=classes, l2=l2), held, wanted) for i in halves], axis=0))
    hits = np.concatenate(whole)
    differences = hits - np.concatenate(half)
    interval = wilson(float(hits.sum()), len(hits))
    slope, error = float(differences.mean()), float(differences.std() / max(1, len(differences)) ** 0.5)
    ahead = float(np.log2((len(x) + NEXT) / len(x)))
    value = float(hits.mean())
    least, most = (slope - Z * error) * ahead, (slope + Z * error) * ahead
    gain = (min(least, 1 - value), min(most, 1 - interval.low))  # no head is right about more than all rows
    return Estimate(metric, value, interval.low, interval.high, len(hits), where, gain), hits


def suggest(probabilities: Floats, names: Sequence[str], *, is_many: bool) -> list[Suggestion]:
    """The likeliest labels of a text, from [labels]; where it may have many, first all those that are likely."""
    order = [int(i) for i in np.argsort(-probabilities, kind="stable")[:SHOWN]]
    if not is_many:
        return [Suggestion(names[i], float(probabilities[i])) for i in order]
    chosen = [names[i] for i in np.flatnonzero(probabilities > 0.5).tolist()]
    sure = float(np.where(probabilities > 0.5, probabilities, 1 - probabilities).prod())
    return [Suggestion(chosen, sure), *(Suggestion([names[i]], float(probabilities[i])) for i in order)]


def _tags(
    encoder: Encoder,
    task: str,
    known: Sequence[Stored],
    test: Sequence[Stored],
    pool: Sequence[Stored],
    on_done: OnDone,
) -> Beliefs:
    words, own_starts = _words(encoder, pool, on_done)
    own = _means(words, own_starts)
    if len(known) < LEAST_ROWS or all(row.row.kinds <= {OUTSIDE} for row in known):
        return Beliefs(own)
    names = rows_of(task).labels_of(task, [row.row for row in known])
    index = {name: i for i, name in enumerate(names)}
    learned, starts = _words(encoder, known, on_done)
    given = np.array([index[tag] for row in known for tag in row.row.tags])
    owner = np.repeat(np.arange(len(known)), np.diff(starts))
    head = fit(learned, given, classes=len(names), l2=FEW_PENALTY)
    found = head.probabilities(words)
    sentences = [found[a:b] for a, b in pairwise(own_starts)]
    if test:
        right = _whole_sentences(head, *_words(encoder, test, on_done), test, index)
        where = TEST_ROWS
    else:
        right, where = {}, NOT_LEARNED
        fold_of = fold_numbers(np.zeros(len(known), int), folds=FOLDS, seed=0)
        for i in range(FOLDS):
            is_held = fold_of[owner] == i
            part = fit(learned[~is_held], given[~is_held], classes=len(names), l2=FEW_PENALTY)
            wrong = (part.logits(learned[is_held]).argmax(axis=1) != given[is_held]).astype(float)
            held = owner[is_held]
            right |= {known[one].id: float(wrong[held == one].sum() == 0) for one in np.unique(held)}
    estimate = share_estimate(SENTENCES, list(right.values()), where)
    suggestions = [[spans_suggested(one, names)] for one in sentences]
    return Beliefs(own, names, doubt_of(sentences), suggestions, estimate, right)


def share_estimate(metric: str, right: Sequence[float], where: str) -> Estimate:
    """The share of these rows that are right, with Wilson's interval."""
    interval = wilson(float(sum(right)), len(right))
    return Estimate(metric, sum(right) / max(1, len(right)), interval.low, interval.high, len(right), where)


def doubt_of(sentences: Sequence[Floats]) -> Floats:
    """[sentences, 2], from the probabilities of each sentence's words, [words, tags]: the least certain words are
    right, or they are not."""
    doubts = np.array([_doubt(one) for one in sentences])
    return np.stack([1 - doubts, doubts], axis=1)


TEST_ROWS = "test rows"
NOT_LEARNED = "labelled rows that it did not learn from"
SENTENCES = "share of rows without an error"


def _words(encoder: Encoder, rows: Sequence[Stored], on_done: OnDone) -> tuple[Floats, Sequence[int]]:
    """Vectors of length 1 of all words, and where each row's begin."""
    made = encoder.words([row.row.input["tokens"] for row in rows], on_done=lambda done: on_done(done, len(rows)))
    scale = np.linalg.norm(made.vectors, axis=1, keepdims=True)
    return made.vectors / np.maximum(scale, 1e-6), made.starts


def _means(words: Floats, starts: Sequence[int]) -> Floats:
    """Of each row the mean of its words' vectors, at length 1."""
    means = np.add.reduceat(words, starts[:-1], axis=0) if len(starts) > 1 else words
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6))


def _doubt(probabilities: Floats) -> float:
    """How likely it is, at most one half, that the least certain words of a sentence are tagged wrongly."""
    unsure = np.sort(1 - probabilities.max(axis=1))[::-1][:UNSURE_WORDS]
    return float(min(0.5, unsure.mean())) if len(unsure) else 0.0


def spans_suggested(probabilities: Floats, names: Sequence[str]) -> Suggestion:
    """The spans of the likeliest tags of a sentence, from [words, tags]."""
    tags = [names[i] for i in probabilities.argmax(axis=1)]
    spans = [[start, end, label] for label, start, end in spans_of(tags)]
    return Suggestion(spans, float(probabilities.max(axis=1).prod()))


def _whole_sentences(
    head: LinearHead, words: Floats, starts: Sequence[int], rows: Sequence[Stored], index: Mapping[str, int]
) -> dict[str, float]:
    """By id, whether all words of a row are tagged rightly."""
    guessed = head.logits(words).argmax(axis=1)
    wanted = np.array([index.get(tag, UNKNOWN) for row in rows for tag in row.row.tags])
    spans = zip(rows, pairwise(starts), strict=True)
    return {row.id: float((guessed[a:b] == wanted[a:b]).all()) for row, (a, b) in spans}
