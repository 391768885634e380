"""Out-of-fold predictions of a dataset's labels: cheap heads on a base's frozen vectors and on the words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmos.abi.frame import ModelPath
from llmos.abi.task import Family, spec_of
from llmos.data.checks.subject import Predictions, Stored
from llmos.data.families import rows_of
from llmos.evaluation.linear_head import average_predictions, cross_validated
from llmos.evaluation.word_head import cross_validated_words
from llmos.nn.frozen_vectors import FrozenEncoder, Vectors

FOLDS = 5
MOST_ROWS = 200_000  # whose labels are predicted: their vectors are in memory
MOST_WORDS = 250_000
MOST_TOKENS = 128  # of a text that its vector is made of: long reviews have said by then what they are about
LEAST_ROWS = 50


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What a base says of the rows: their predictions, and the limits that it has."""

    predictions: Predictions | None
    max_tokens: int
    token_counts: Mapping[str, int]
    control_tokens: tuple[str, ...]
    left_out: int = 0  # rows beyond the bounds
    unknown_counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # characters unknown, and all
    unknown_examples: tuple[str, ...] = ()


def ask_base(
    base: ModelPath,
    task: str,
    rows: Sequence[Stored],
    *,
    dtype: str,
    threads: int,
    with_labels: bool,
    on_done: Callable[[str, int, int], None],
) -> BaseFacts:
    """Count tokens, and predict labels where the task's family has some; `on_done` gets phase, rows done and all."""
    family = spec_of(task).family
    most = MOST_TOKENS if family is Family.LABELS else None  # every word of tags counts
    encoder = FrozenEncoder(base, dtype=dtype, threads=threads, most_tokens=most)
    ids, texts = [row.id for row in rows], [_whole_text(row) for row in rows]
    counts = dict(zip(ids, encoder.count(texts), strict=True))
    unknown = encoder.unknown(texts)
    predict = {Family.LABELS: _labels, Family.TAGS: _tags}.get(family)
    made: Predictions | None = None
    used: Sequence[Stored] = ()
    if predict is not None and with_labels and len(rows) >= LEAST_ROWS:
        used = rows[:MOST_ROWS]
        made, used = predict(encoder, task, used, on_done)
    left_out = len(rows) - len(used) if made is not None else 0
    return BaseFacts(
        made,
        encoder.max_tokens,
        counts,
        encoder.control_tokens,
        left_out,
        dict(zip(ids, unknown.counts, strict=True)),
        unknown.examples,
    )


def _whole_text(row: Stored) -> str:
    return " ".join(row.row.texts)


def _labels(
    encoder: FrozenEncoder, task: str, rows: Sequence[Stored], on_done: Callable[[str, int, int], None]
) -> tuple[Predictions | None, Sequence[Stored]]:
    is_many = any(row.row.is_multi for row in rows)
    names = tuple(sorted({kind for row in rows for kind in row.row.kinds}))
    if len(names) < 2:
        return None, rows
    index = {name: i for i, name in enumerate(names)}
    given: Any = np.array([index[row.row.labels[0]] if row.row.labels else 0 for row in rows])  # Any: of either shape
    if is_many:
        given = np.zeros((len(rows), len(names)), dtype=np.float32)
        for i, row in enumerate(rows):
            given[i, [index[name] for name in row.row.labels]] = 1
    texts = [row.row.texts[0] for row in rows]
    layers = encoder.texts_of_layers(texts, on_done=lambda done: on_done("embed", done, len(rows)))
    on_done("labels", 0, len(rows))
    found = predict_labels(layers, texts, given, len(names))
    return Predictions(names, [(row, 0) for row in rows], given, found), rows


def predict_labels(layers: Sequence[Vectors], texts: Sequence[str], given: Any, classes: int) -> Any:  # Any: arrays
    """Out-of-fold probabilities [rows, classes]: the mean of a head on each layer's vectors and one on the words.

    `given` are label numbers [rows], or zeros and ones [rows, classes], for which the words are not asked.
    """
    parts = [cross_validated(vectors, given, folds=FOLDS, classes=classes) for vectors in layers]
    words = cross_validated_words(texts, given, folds=FOLDS, classes=classes) if given.ndim == 1 else None
    return average_predictions([*parts, *([] if words is None else [words])], given)


def _tags(
    encoder: FrozenEncoder, task: str, rows: Sequence[Stored], on_done: Callable[[str, int, int], None]
) -> tuple[Predictions | None, Sequence[Stored]]:
    words, end = 0, 0
    while end < len(rows) and words < MOST_WORDS:
        words += len(rows[end].row.tags)
        end += 1
    rows = rows[:end]
    if all(row.row.kinds <= {"O"} for row in rows):
        return None, rows
    names = rows_of(task).labels_of(task, [row.row for row in rows])
    index = {name: i for i, name in enumerate(names)}
    places = [(row, word) for row in rows for word in range(len(row.row.tags))]
    given = np.array([index[row.row.tags[word]] for row, word in places])
    sentences = [row.row.input["tokens"] for row in rows]
    made = encoder.words(sentences, on_done=lambda done: on_done("embed", done, len(rows)))
    scale = np.linalg.norm(made.vectors, axis=1, keepdims=True)
    owner = np.repeat(np.arange(len(rows)), [len(one) for one in sentences])
    on_done("labels", 0, len(rows))
    found = cross_validated(
        made.vectors / np.maximum(scale, 1e-6), given, folds=FOLDS, groups=owner, classes=len(names), l2=0.1
    )
    return Predictions(names, places, given, found), rows
