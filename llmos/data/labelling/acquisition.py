"""Which rows to ask about first, from a cheap model's probabilities and the rows' vectors.

`margin`: the least distance between the two likeliest labels (Scheffer et al. 2001). `badge`: rows that are both
uncertain and unlike each other, by k-means++ on the gradients that their likeliest labels would give the last layer
(Ash et al. 2020, arXiv:1906.03671). `random`: any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmos.abi.labelling import STRATEGIES
from llmos.abi.task import Family, spec_of
from llmos.data.datasets.stored_row import StoredRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Stored = StoredRow[Any]  # Any: a row of the task's family
    Floats = NDArray[Any]  # Any: float32 or float64
    Places = NDArray[Any]  # Any: integers


def choose_rows(strategy: str, vectors: Floats, probabilities: Floats | None, count: int, seed: int) -> Places:
    """The places of `count` rows, the one worth most first.

    `vectors` are [rows, size], `probabilities` [rows, labels]. Without probabilities, because nothing is labelled yet,
    all strategies but `random` take rows that are unlike each other.
    """
    import numpy as np

    assert strategy in STRATEGIES, strategy
    count = min(count, len(vectors))
    generator = np.random.default_rng(seed)
    if strategy == "random":
        return np.asarray(generator.permutation(len(vectors))[:count])
    if probabilities is None:
        return _spread(np.ones((len(vectors), 1), np.float32), vectors, count, generator)
    if strategy == "margin":
        return np.argsort(margins(probabilities), kind="stable")[:count]
    return _spread(_gradients(probabilities), vectors, count, generator)


def some_sentences(task: str, pool: Sequence[Stored], most: int) -> list[Stored]:
    """Of many sentences of words to be tagged those with the lowest ids, which are keyed digests: the same ones each
    time, by no order of theirs. Of other rows all, for their vectors are kept."""
    if spec_of(task).family is not Family.TAGS or len(pool) <= most:
        return list(pool)
    return sorted(pool, key=lambda one: one.id)[:most]


def shortlist(strategy: str, probabilities: Floats | None, rows: int, count: int, seed: int) -> Places:
    """The places of the `count` rows, of so many, that a costlier model is asked about before the strategy chooses.

    They are those with the least margins; any, where the strategy takes any or nothing is known of them yet.
    """
    import numpy as np

    if rows <= count:
        return np.arange(rows)
    if strategy == "random" or probabilities is None:
        return np.asarray(np.random.default_rng(seed).permutation(rows)[:count])
    return np.argsort(margins(probabilities), kind="stable")[:count]


def margins(probabilities: Floats) -> Floats:
    """Of each row, how much likelier its likeliest label is than the next one."""
    import numpy as np

    best = np.partition(probabilities, -2, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def _gradients(probabilities: Floats) -> Floats:
    """The gradient of each row's loss by the logits, if its likeliest label were right: [rows, labels]."""
    import numpy as np

    found = probabilities.astype(np.float32, copy=True)
    found[np.arange(len(found)), found.argmax(axis=1)] -= 1
    return found


def _spread(left: Floats, right: Floats, count: int, generator: Any) -> Places:  # Any: numpy's Generator
    """k-means++ seeds (Arthur and Vassilvitskii 2007) among the outer products of the rows of `left` and `right`.

    The products are never made: their inner product is that of the left parts times that of the right parts. The first
    is the longest one.
    """
    import numpy as np

    sizes = (left * left).sum(axis=1) * (right * right).sum(axis=1)
    distances = np.full(len(left), np.inf)
    chosen: list[int] = []
    place = int(sizes.argmax())
    while len(chosen) < count:
        chosen.append(place)
        apart = sizes + sizes[place] - 2 * (left @ left[place]) * (right @ right[place])
        distances = np.minimum(distances, np.maximum(apart, 0))
        distances[chosen] = 0
        total = float(distances.sum())
        free = np.setdiff1d(np.arange(len(left)), chosen) if total <= 0 else None
        if free is not None:  # all others are like one that was chosen
            return np.array([*chosen, *generator.permutation(free)[: count - len(chosen)]])
        place = int(generator.choice(len(left), p=distances / total))
    return np.array(chosen)
