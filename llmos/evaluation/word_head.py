"""A cheap head on the words of texts: TF-IDF of words and pairs, and a logistic regression by stochastic gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmos.evaluation.linear_head import best_temperature, fold_numbers, probabilities_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORDS = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|[^\w\s]"  # a Chinese or Japanese character is a word
LEAST_ROWS = 2  # in which a word or a pair must be
MOST_WORDS = 100_000  # and pairs, the most frequent
PENALTY = 1e-5
EPOCHS = 8


def cross_validated_words(
    texts: Sequence[str], y: NDArray[Any], *, folds: int = 5, seed: int = 0, classes: int
) -> NDArray[np.float32] | None:
    """Out-of-fold probabilities [rows, classes] for class numbers `y` [rows], by the folds of `cross_validated`.

    None where no word is in two texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # here, for only a check pays for it

    counted = TfidfVectorizer(
        token_pattern=WORDS,
        ngram_range=(1, 2),
        min_df=LEAST_ROWS,
        max_features=MOST_WORDS,
        sublinear_tf=True,
        dtype=np.float32,
    )
    try:
        x = counted.fit_transform(texts)
    except ValueError:  # its own for an empty vocabulary
        return None
    fold_of = fold_numbers(y, folds=folds, seed=seed)
    logits = np.zeros((len(y), classes), dtype=np.float32)
    for fold in range(folds):
        held_out = fold_of == fold
        logits[held_out] = _logits(x[~held_out], y[~held_out], x[held_out], classes)
    return probabilities_of(logits / best_temperature(logits, y))


def _logits(x: Any, y: NDArray[Any], held_out: Any, classes: int) -> NDArray[np.float32]:  # Any: sparse matrices
    """The logits of the rows held out; a class that is not in `y` is as unlikely as the least likely one."""
    from sklearn.linear_model import SGDClassifier

    known = np.unique(y)
    if len(known) == 1:
        return np.zeros((held_out.shape[0], classes), np.float32)
    head = SGDClassifier("log_loss", alpha=PENALTY, max_iter=EPOCHS, tol=None, random_state=0).fit(x, y)
    found = np.asarray(head.decision_function(held_out), dtype=np.float32)
    if found.ndim == 1:
        found = np.stack([-found, found], axis=1) * np.float32(0.5)
    logits: NDArray[np.float32] = np.repeat(found.min(axis=1, keepdims=True), classes, axis=1)
    logits[:, known] = found
    return logits
