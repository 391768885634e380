"""What the base's frozen vectors say beside an evaluation: the learning curve, and the training rows near to errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import NearRow, RowOutcome, badness, clip
from llmos.abi.task import spec_of
from llmos.data.row import Row
from llmos.evaluation.augmentation_gain import HEADS, can_measure
from llmos.evaluation.families import evaluation_of
from llmos.evaluation.judge import RowFindings
from llmos.evaluation.learning_curve import fit_curve, parts_of_rows
from llmos.evaluation.linear_head import fit
from llmos.evaluation.metrics import sample_of
from llmos.nn.frozen_vectors import FrozenEncoder, Vectors, WordVectors
from llmos.tasks import Settings

MOST_TRAIN, MOST_TEST = 1600, 600  # rows of the curve: so that it takes seconds
MOST_WORDS = 12_000  # of the training rows, where words are learned
LEAST_TRAIN, LEAST_TEST = 80, 40
SEARCHED = 1600  # training rows among which near ones are looked for
ERRORS = 200  # the worst ones, to which near rows are looked for
NEAR = 3
SURE, CLOSE = 0.9, 0.7  # confidence and cosine from which on a label is doubted
NEAR_CHARS = 300


class TextVectors:
    """The vectors of a base, computed once for each text."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        self._encoder = encoder
        self._of: dict[str, Vectors] = {}

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, [texts, hidden]."""
        new = [text for text in dict.fromkeys(texts) if text not in self._of]
        if new:
            self._of.update(zip(new, self._encoder.texts(new), strict=True))
        return np.stack([self._of[text] for text in texts])

    def words(self, sentences: Sequence[Sequence[str]]) -> WordVectors:
        """Vectors of the words of all sentences."""
        return self._encoder.words(sentences)


def measure_curve(
    encoder: TextVectors, task: str, train: Sequence[Row], test: Sequence[Row], settings: Settings
) -> dict[str, Json]:
    """The learning curve as evidence keeps it; {} for tasks that heads do not do, and for few rows."""
    if not can_measure(task) or len(train) < LEAST_TRAIN or len(test) < LEAST_TEST:
        return {}
    heads, plain = HEADS[spec_of(task).family], replace(settings, calibration=None)
    rows = [train[i] for i in _spread(len(train), MOST_TRAIN)]
    most = int(MOST_WORDS / max(1.0, float(np.mean([_size(row) for row in rows]))))
    rows = [rows[i] for i in _spread(len(rows), most)]
    asked = [test[i] for i in _spread(len(test), MOST_TEST)]
    x, y = heads.inputs(encoder, rows, plain)
    ends = np.cumsum([0, *map(_size, rows)])
    vectors = heads.vectors(encoder, asked)
    samples = []
    parts = parts_of_rows(len(rows))
    for _, chosen in parts:
        made = []
        for places in chosen:
            flat = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in places])
            head = fit(x[flat], y[flat], classes=len(plain.labels))
            predicted = [heads.prediction(head.probabilities(one)) for one in vectors]
            made.append(sample_of(task, asked, predicted, plain))
        samples.append(made)
    curve = fit_curve(spec_of(task).primary_metric, [size for size, _ in parts], samples)
    if curve is None:
        return {}
    note = "" if len(rows) == len(train) else f" Measured on {len(rows):,} of the {len(train):,} training rows."
    return {**curve.plain(), "sentence": curve.sentence + note, "all_rows": len(train), "test_rows": len(asked)}


def with_near_rows(
    encoder: TextVectors, task: str, train: Sequence[Row], findings: RowFindings, settings: Settings
) -> RowFindings:
    """The findings with the training rows that are nearest to the worst errors, noted where these doubt a label."""
    wrong = sorted((one for one in findings.outcomes if not one.is_right), key=badness, reverse=True)[:ERRORS]
    if not wrong or not train:
        return findings
    searched = [train[i] for i in _spread(len(train), SEARCHED)]
    known = encoder.texts([row.texts[0] for row in searched])
    cosines = encoder.texts([one.texts[0] for one in wrong]) @ known.T
    found: dict[int, RowOutcome] = {}
    for one, near in zip(wrong, cosines, strict=True):
        places = np.argsort(-near, kind="stable")[:NEAR]
        rows = tuple(_near_row(task, searched[i], float(near[i]), settings) for i in places)
        found[one.row] = structs.replace(one, nearest=rows, suspect=_doubt(one, rows))
    return replace(findings, outcomes=tuple(found.get(one.row, one) for one in findings.outcomes))


def _near_row(task: str, row: Row, cosine: float, settings: Settings) -> NearRow:
    text = row.texts[0]
    shown = text if len(text) <= NEAR_CHARS else f"{text[: NEAR_CHARS - 1]}…"
    return NearRow(shown, clip(evaluation_of(task).target_of(row)), round(cosine, 4), row.file, row.line)


def _doubt(one: RowOutcome, near: Sequence[NearRow]) -> str:
    """Why a row's own label may be wrong: the model is sure of another one, which most near training rows have."""
    if one.confidence is None or one.confidence < SURE or not one.labels:
        return ""
    agreeing = [row for row in near if row.target == one.prediction and row.cosine >= CLOSE]
    if 2 * len(agreeing) <= NEAR:
        return ""
    return (
        f"the model says {one.prediction} with {one.confidence:.2f}, and so are {len(agreeing)} of the {NEAR} nearest "
        "training rows"
    )


def _size(row: Any) -> int:  # Any: a row of either family
    """How many vectors are learned of a row: one a word, or one."""
    return len(getattr(row, "tags", (0,)))


def _spread(count: int, most: int) -> list[int]:
    """All places, or so many at equal distances."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]
