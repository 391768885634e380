"""The worst slice: the rows of one condition, or of two together, that are surely answered worst.

All conditions that are frequent enough are tried, whatever was answered to their rows: values of facets, words of the
texts, and pairs of them. The bounds of each hold for all that were tried at once (Bonferroni), so that the slice may be
chosen by them and still be believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import betaincinv

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import WORD, words_of

LEAST_ROWS = 20  # of a slice, and
LEAST_SHARE = 0.005  # this share of the rows
MOST_ROWS = 20_000  # that are searched, evenly out of more
MOST_SHARE = 0.6  # a word in more rows parts nothing
MOST_WORDS = 1500  # that are tried alone, the most frequent ones
PAIRED_WORDS = 250  # that are tried together with others
MOST_PAIRED = 500  # conditions in pairs
ERROR = 0.05
SIMPLER = 0.02  # a pair is taken over one of its conditions only where its bound is lower by this

Floats = NDArray[np.float64]
Condition = tuple[str, str]  # facet, value


@dataclass(frozen=True, slots=True)
class WorstSlice:
    """The slice, its rows and mean score, and the bounds of it that hold for all `tried` at once, at 95 %.

    `is_shown`: the upper bound lies below the mean of all rows, by its own lower bound.
    """

    conditions: tuple[Condition, ...]
    rows: int
    value: float
    low: float
    high: float
    overall: float
    tried: int
    is_shown: bool

    @property
    def name(self) -> str:
        return " & ".join(f"{facet}={value}" for facet, value in self.conditions)

    def plain(self) -> dict[str, Json]:
        return {"name": self.name, **asdict(self), "conditions": [list(one) for one in self.conditions]}


def worst_slice(
    scores: Sequence[float], facets: Sequence[Mapping[str, tuple[str, ...]]], texts: Sequence[Sequence[str]]
) -> WorstSlice | None:
    """The slice with the lowest upper bound of its mean score (from 0 to 1); None where no condition is frequent
    enough."""
    kept = range(len(scores)) if len(scores) <= MOST_ROWS else [i * len(scores) // MOST_ROWS for i in range(MOST_ROWS)]
    values = np.array([scores[i] for i in kept], dtype=np.float64)
    facets, texts = [facets[i] for i in kept], [texts[i] for i in kept]
    least = max(LEAST_ROWS, int(np.ceil(LEAST_SHARE * len(values))))
    conditions, single = _conditions(facets, texts, least)
    if not conditions:
        return None
    places = list(range(len(conditions)))
    counts, sums, squares = (_sum(single, column) for column in (np.ones(len(values)), values, values**2))
    paired = _pairable(conditions, counts)
    i, j, pair_counts, pair_sums, pair_squares = _pairs(single, paired, values, least, conditions)
    counts, sums, squares = (
        np.concatenate(parts) for parts in ((counts, pair_counts), (sums, pair_sums), (squares, pair_squares))
    )
    members = [(place,) for place in places] + list(zip(i.tolist(), j.tolist(), strict=True))
    tried = len(members)
    is_binary = bool(np.isin(values, (0.0, 1.0)).all())
    low, high = bounds(counts, sums, squares, ERROR / tried, is_binary=is_binary)
    at = _simplest(high, members)
    whole = np.array([float(len(values))]), np.array([values.sum()]), np.array([(values**2).sum()])
    least_overall = float(bounds(*whole, ERROR, is_binary=is_binary)[0][0])
    return WorstSlice(
        tuple(conditions[place] for place in members[at]),
        int(counts[at]),
        float(sums[at] / counts[at]),
        float(low[at]),
        float(high[at]),
        float(values.mean()),
        tried,
        bool(high[at] < least_overall),
    )


def bounds(counts: Floats, sums: Floats, squares: Floats, error: float, *, is_binary: bool) -> tuple[Floats, Floats]:
    """Both bounds of means of so many scores, which miss with this probability together.

    Of shares exact (Clopper and Pearson 1934); of scores between 0 and 1 by the empirical Bernstein bound (Maurer and
    Pontil 2009).
    """
    if is_binary:
        hits = np.rint(sums)
        misses = counts - hits
        low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), misses + 1, error / 2), 0.0)
        high = np.where(misses > 0, betaincinv(hits + 1, np.maximum(misses, 1), 1 - error / 2), 1.0)
        return low, high
    mean = sums / counts
    few = np.maximum(counts - 1, 1)
    variance = np.maximum(0.0, squares - counts * mean**2) / few
    reach = np.sqrt(2 * variance * np.log(4 / error) / counts) + 7 * np.log(4 / error) / (3 * few)
    return np.maximum(0.0, mean - reach), np.minimum(1.0, mean + reach)


def _conditions(
    facets: Sequence[Mapping[str, tuple[str, ...]]], texts: Sequence[Sequence[str]], least: int
) -> tuple[list[Condition], Any]:  # Any: a scipy.sparse array; scipy has no types
    """The conditions that are frequent enough, and which rows meet them, [rows, conditions]; words last."""
    words = [words_of(some) for some in texts]
    frequent = Counter(word for some in words for word in some)
    most = MOST_SHARE * len(texts)
    chosen = [word for word, count in frequent.most_common() if least <= count <= most][:MOST_WORDS]
    by_facet = Counter((name, value) for row in facets for name, values in row.items() for value in set(values))
    conditions = [one for one, count in by_facet.items() if least <= count < len(facets)]
    conditions += [(WORD, word) for word in chosen]
    index = {one: i for i, one in enumerate(conditions)}
    rows, columns = [], []
    for place, (row, some) in enumerate(zip(facets, words, strict=True)):
        met = {(name, value) for name, values in row.items() for value in values} | {(WORD, word) for word in some}
        for one in met & index.keys():
            rows.append(place)
            columns.append(index[one])
    return conditions, sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(facets), len(conditions)))


def _sum(members: Any, column: Floats) -> Floats:  # Any: as above
    return np.asarray(members.T @ column, dtype=np.float64)


def _pairable(conditions: Sequence[Condition], counts: Floats) -> list[int]:
    """The conditions that are tried in pairs: all facets, and the most frequent words, which come first."""
    words = [i for i, (facet, _) in enumerate(conditions) if facet == WORD][:PAIRED_WORDS]
    others = [i for i, (facet, _) in enumerate(conditions) if facet != WORD]
    others.sort(key=lambda i: -counts[i])
    return sorted(others[: MOST_PAIRED - len(words)]) + words


def _pairs(
    single: Any, paired: Sequence[int], values: Floats, least: int, conditions: Sequence[Condition]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats, Floats]:
    """The pairs that are frequent enough and narrower than each of their conditions: both places, rows, sums of scores
    and of their squares."""
    some = single[:, list(paired)].toarray().astype(np.float32)
    column = values.astype(np.float32)
    counts = some.T @ some
    alone = np.diag(counts)
    is_narrower = (counts < alone[:, None]) & (counts < alone[None, :])
    first, second = np.nonzero(np.triu((counts >= least) & is_narrower, 1))
    sums, squares = (some.T * column) @ some, (some.T * column**2) @ some
    places = np.asarray(paired, dtype=np.int64)
    return (
        places[first],
        places[second],
        *(matrix[first, second].astype(np.float64) for matrix in (counts, sums, squares)),
    )


def _simplest(high: Floats, members: Sequence[tuple[int, ...]]) -> int:
    """The place of the lowest bound; of a pair's single condition where that is nearly as low."""
    at = int(high.argmin())
    alone = [place for place in members[at] if len(members[at]) > 1 and high[place] <= high[at] + SIMPLER]
    return min(alone, key=lambda place: float(high[place])) if alone else at
