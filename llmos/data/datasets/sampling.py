"""Chooses a sample of a dataset's rows: by seed and id, so that the order of rows does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmos.abi.error import BadInput

GOLDEN, ONE, TWO = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def choose_sample(
    ids: Any, strata: Sequence[str], seed: int, *, count: int | None = None, share: float | None = None, balance: bool
) -> Any:  # Any: arrays
    """Which rows are in the sample, as an array of booleans: so many, or this share.

    Of every stratum as large a part as of all; with `balance`, as many of every one, as far as it has them.
    """
    import numpy as np

    if (count is None) == (share is None):
        raise BadInput("A sample is of a number of rows or of a share of them. Give one: n, or share", key="n")
    wanted = count if count is not None else max(1, round((share or 0.0) * len(ids)))
    if not 0 < wanted <= len(ids):
        raise BadInput(f"A sample of {wanted:,} rows cannot be taken: there are {len(ids):,}", key="n", value=wanted)
    names, codes = np.unique(np.asarray(strata, dtype=object).astype(str), return_inverse=True)
    sizes = {name: int(size) for name, size in zip(names, np.bincount(codes), strict=True)}
    quotas = equal_quotas(sizes, wanted) if balance else shared_quotas(sizes, wanted)
    places = _mix(ids.astype(np.uint64), seed)
    chosen = np.zeros(len(ids), bool)
    order = np.lexsort((ids, places, codes))
    starts = np.concatenate(([0], np.cumsum(np.bincount(codes))[:-1]))
    for name, start in zip(names, starts, strict=True):
        chosen[order[start : start + quotas[name]]] = True
    return chosen


def shared_quotas(sizes: Mapping[str, int], wanted: int) -> dict[str, int]:
    """So many rows of each stratum that the whole is met, by largest remainder."""
    total = sum(sizes.values())
    exact = {name: wanted * size / total for name, size in sizes.items()}
    quotas = {name: int(one) for name, one in exact.items()}
    rest = sorted(sizes, key=lambda name: (quotas[name] - exact[name], name))
    for name in rest[: wanted - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def equal_quotas(sizes: Mapping[str, int], wanted: int) -> dict[str, int]:
    """As many rows of each stratum as possible: what a small one lacks is taken from the larger ones."""
    quotas, left = {}, wanted
    ordered = sorted(sizes, key=lambda name: (sizes[name], name))
    for at, name in enumerate(ordered):
        quotas[name] = min(sizes[name], left // (len(ordered) - at))
        left -= quotas[name]
    return quotas


def _mix(ids: Any, seed: int) -> Any:  # Any: arrays
    """A number for each id that depends on the seed (SplitMix64, Steele et al. 2014)."""
    import numpy as np

    with np.errstate(over="ignore"):
        mixed = ids + np.uint64((seed + 1) * GOLDEN % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(ONE)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(TWO)
        return mixed ^ (mixed >> np.uint64(31))
