"""Label propagation: labels spread from a few rows to all others along the nearest neighbours of their vectors.

Zhou, Bousquet, Lal, Weston, Schoelkopf 2004, "Learning with Local and Global Consistency"; the graph as in Iscen,
Tolias, Avrithis, Chum 2019 (arXiv:1904.04717). A label's total over all rows is made equal, so that none floods the
graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

NEIGHBOURS = 15
POWER = 4  # of a cosine, as the weight of an edge
SPREADS = (0.99, 0.9)  # of a row's belief, what comes from its neighbours: far, or near to rows with labels
STEPS = 30
BLOCK_ROWS = 1024  # whose cosines with all rows are held at a time

Floats = NDArray[Any]  # Any: float32
Numbers = NDArray[Any]  # Any: integers


def neighbour_graph(vectors: Floats, neighbours: int = NEIGHBOURS) -> Any:  # Any: scipy has no types
    """The symmetric, normalized matrix of edges [rows, rows] between unit vectors [rows, size]."""
    count = len(vectors)
    most = min(neighbours, count - 1)
    starts, ends, weights = [], [], []
    for start in range(0, count, BLOCK_ROWS):
        cosines = vectors[start : start + BLOCK_ROWS] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -1
        nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        starts.append(np.repeat(start + rows, most))
        ends.append(nearest.ravel())
        weights.append(np.maximum(np.take_along_axis(cosines, nearest, 1), 0).ravel() ** POWER)
    places = (np.concatenate(starts), np.concatenate(ends))
    edges = sparse.csr_matrix((np.concatenate(weights), places), shape=(count, count))
    edges = edges.maximum(edges.T)
    scale = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(edges.sum(axis=1)).ravel(), 1e-9)))
    return (scale @ edges @ scale).tocsr()


def propagate(
    graph: Any,  # Any: as neighbour_graph makes it
    places: Numbers,
    labels: Numbers,
    classes: int,
    spread: float = SPREADS[0],
) -> Floats:
    """The probabilities of all rows, [rows, classes], from the labels of the rows at these places."""
    given = np.zeros((graph.shape[0], classes), np.float32)
    given[places, labels] = 1
    found = given
    for _ in range(STEPS):
        found = spread * (graph @ found) + (1 - spread) * given
    found = found / np.maximum(found.sum(axis=0, keepdims=True), 1e-12)
    total = found.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, found / np.maximum(total, 1e-30), 1 / classes), np.float32)
