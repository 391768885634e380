"""The beginning of self-training on texts: labels spread to unlabelled rows over frozen vectors, or a head after
contrastive training. Labels are spread where they are right about more of the labelled rows that they do not see than a
head on the same vectors, by more than a standard error: where neighbours share no label, luck on 100 rows hides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmos.evaluation.linear_head import fit, fold_numbers
from llmos.evaluation.self_training.propagation import SPREADS, neighbour_graph, propagate
from llmos.nn.adapters.head import PooledHead, SequenceHead
from llmos.nn.packing import pool
from llmos.training.candidate import Candidate
from llmos.training.contrastive import with_vectors
from llmos.training.examples import Example, passes

FOLDS = 5
PENALTY = 0.1  # of a head on few rows
TOKENS_AT_ONCE = 8192

Floats = NDArray[Any]  # Any: float32
Numbers = NDArray[Any]  # Any: integers


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What label propagation believes: probabilities [rows, labels] of the labelled rows, each by the labels of others
    alone, and of the rest; and the accuracies on the labelled rows, beside that of a head on the same vectors."""

    labelled: Floats
    others: Floats
    accuracy: float
    head_accuracy: float
    is_better: bool  # than the head, by more than luck on so few rows


class _Unscaled(PooledHead):
    """Vectors per sequence at the length that a head reads."""

    def forward(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        return pool(hidden, lengths, self.pooling)


@torch.inference_mode()
def vectors_of(candidate: Candidate, pooling: str, examples: Sequence[Example[Any]]) -> tuple[Floats, float]:
    """The texts' vectors of length 1, [examples, hidden], and their mean length before."""
    reader = with_vectors(candidate, _Unscaled(pooling))
    reader.train(False)
    found = np.zeros((len(examples), candidate.loaded.hidden_size), np.float32)
    for part in passes(range(len(examples)), [one.size for one in examples], TOKENS_AT_ONCE):
        found[part] = reader.logits([examples[i].ids for i in part]).cpu().numpy()
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.maximum(lengths, 1e-9), float(lengths.mean()) if len(examples) else 1.0


def spread_labels(vectors: Floats, labels: Numbers, classes: int) -> Spread:
    """Propagate the labels of the first rows over all vectors [rows, hidden], as far as is right about more of those
    rows, each by the labels of others."""
    known = len(labels)
    graph = neighbour_graph(vectors)
    places = np.arange(known)
    fold_of = fold_numbers(labels, folds=min(FOLDS, known), seed=0)
    folds = [held for held in (fold_of == fold for fold in range(FOLDS)) if held.any()]
    unseen = []
    for spread in SPREADS:
        labelled = np.zeros((known, classes), np.float32)
        for held in folds:
            labelled[held] = propagate(graph, places[~held], labels[~held], classes, spread)[:known][held]
        unseen.append((float((labelled.argmax(axis=1) == labels).mean()), labelled))
    best = max(range(len(SPREADS)), key=lambda i: unseen[i][0])  # the first of equals
    right = []
    for held in folds:
        head = fit(vectors[:known][~held], labels[~held], classes=classes, l2=PENALTY)
        right.append(head.logits(vectors[:known][held]).argmax(axis=1) == labels[held])
    others = propagate(graph, places, labels, classes, SPREADS[best])[known:]
    accuracy, labelled = unseen[best]
    by_head = np.concatenate(right)
    by_spread = np.concatenate([(labelled.argmax(axis=1) == labels)[held] for held in folds])
    is_better = exceeds_luck(int((by_spread & ~by_head).sum()), int((by_head & ~by_spread).sum()))
    return Spread(labelled, others, accuracy, float(by_head.mean()), is_better)


def exceeds_luck(gained: int, lost: int) -> bool:
    """Whether so many rows gained, and lost, are more than one standard error of no difference (McNemar)."""
    return gained - lost > sqrt(gained + lost)


@torch.inference_mode()
def fit_head(candidate: Candidate, examples: Sequence[Example[Any]], classes: int) -> None:
    """Set the candidate's head to the one that logistic regression finds on the vectors of these labelled texts."""
    head = candidate.head
    assert isinstance(head, SequenceHead)
    vectors, length = vectors_of(candidate, head.pooling, examples)
    found = fit(vectors, np.array([one.target.labels[0] for one in examples]), classes=classes, l2=PENALTY)
    head.out.weight.copy_(torch.from_numpy(found.weights.T / length))
    head.out.bias.copy_(torch.from_numpy(found.bias))
