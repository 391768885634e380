"""Texts that are almost the same: MinHash LSH proposes pairs, their real similarity decides.

Broder 1997 for MinHash; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3, for LSH. Shingles are of
three characters, of two where most letters are Chinese or Japanese.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

BANDS, BAND_ROWS = 32, 4  # pairs of similarity 0.6 are proposed at 99 %, of 0.3 at 23 %
LEAST_SIMILARITY = 0.8  # of the shingles' sets (Jaccard)
EDITS_PER_CHAR = 0.06  # or so few edits; at least one for a text of LEAST_EDITED characters
LEAST_EDITED = 12
LEAST_AGREEMENT = 0.4  # of shingles, below which edits are not counted
MOST_IN_BUCKET = 64
MOST_COPIES = 100  # of equal texts, with which each is paired
PAIRS_AT_ONCE = 1 << 16
MOST_CHARS = 20_000  # of a text that are compared
SEED = 1
HAN = re.compile(r"[぀-ヿ㐀-鿿豈-﫿]")


@dataclass(frozen=True, slots=True)
class NearRows:
    """For each row, in order, the earlier rows whose texts are almost the same, with their similarity (0 to 1).

    Rows of equal texts, whatever case and white space, have a similarity of 1.
    """

    before: tuple[tuple[tuple[int, float], ...], ...]


def near_rows(rows: Sequence[Sequence[str]]) -> NearRows:
    """Compare the rows' texts; two rows are near if each text is near the other's at the same place."""
    twins: dict[tuple[str, ...], list[int]] = {}
    for at, texts in enumerate(rows):
        twins.setdefault(tuple(map(fold, texts)), []).append(at)
    different = list(twins)
    before: list[list[tuple[int, float]]] = [[] for _ in rows]
    for copies in twins.values():
        for i, at in enumerate(copies):
            before[at] += [(other, 1.0) for other in copies[:i][-MOST_COPIES:]]
    for i, j in _candidates([_hashes(" | ".join(texts)) for texts in different]):
        score = similarity(different[i], different[j])
        if score:
            for one in twins[different[i]][:MOST_COPIES]:
                for other in twins[different[j]][:MOST_COPIES]:
                    before[max(one, other)].append((min(one, other), score))
    return NearRows(tuple(tuple(sorted(found)) for found in before))


def _candidates(hashed: Sequence[Any]) -> Iterator[tuple[int, int]]:  # Any: arrays
    """Pairs that share a band of their sketches, and at least LEAST_AGREEMENT of all values."""
    import numpy as np
    from datasketch import MinHash

    plain = MinHash(num_perm=BANDS * BAND_ROWS, seed=SEED, hashfunc=int)
    sketches = np.empty((len(hashed), BANDS * BAND_ROWS), dtype=np.uint64)
    for i, hashes in enumerate(hashed):
        sketch = plain.copy()
        sketch.update_batch(hashes.tolist())
        sketches[i] = sketch.hashvalues
    pairs = np.unique(np.concatenate([_in_band(sketches, band) for band in range(BANDS)]))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        lower, upper = np.divmod(pairs[start : start + PAIRS_AT_ONCE], len(hashed))
        close = (sketches[lower] == sketches[upper]).mean(axis=1) >= LEAST_AGREEMENT
        yield from zip(lower[close].tolist(), upper[close].tolist(), strict=True)


def _in_band(sketches: Any, band: int) -> Any:  # Any: arrays
    """Pairs whose values in this band are the same, each as one number; of a large bucket, neighbours alone."""
    import numpy as np

    key = np.zeros(len(sketches), dtype=np.uint64)
    for column in range(band * BAND_ROWS, (band + 1) * BAND_ROWS):
        key = key * np.uint64(0x9E3779B97F4A7C15) + sketches[:, column]
    order = np.argsort(key, kind="stable").astype(np.int64)
    ordered = key[order]
    found = [np.empty(0, dtype=np.int64)]
    for step in range(1, min(MOST_IN_BUCKET, len(order))):
        same = np.flatnonzero(ordered[step:] == ordered[:-step])
        if not len(same):
            break
        found.append(order[same] * len(sketches) + order[same + step])
    return np.concatenate(found)


def similarity(left: Sequence[str], right: Sequence[str]) -> float:
    """The least similarity of the texts at the same places; 0 if those of one place are not near."""
    if len(left) != len(right):
        return 0.0
    return min((_similarity(a, b) for a, b in zip(left, right, strict=True)), default=0.0)


@lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """Letters and digits alone, in small letters: what two copies of a text share."""
    kept = unicodedata.normalize("NFKC", text[:MOST_CHARS]).casefold()
    bare = " ".join(re.findall(r"\w+", kept))
    return bare or " ".join(kept.split())


def _similarity(left: str, right: str) -> float:
    if left == right:
        return 1.0
    if not left or not right:
        return 0.0
    if _says_otherwise(left, right):
        return 0.0
    a, b = _shingles(left), _shingles(right)
    shared = len(a & b)
    jaccard = shared / (len(a) + len(b) - shared)
    if jaccard >= LEAST_SIMILARITY or jaccard < LEAST_AGREEMENT:
        return jaccard if jaccard >= LEAST_SIMILARITY else 0.0
    longest = max(len(left), len(right))
    most = int(longest * EDITS_PER_CHAR) or int(longest >= LEAST_EDITED)
    if min(most, 1) == 0 or abs(len(left) - len(right)) > most:
        return 0.0
    edits = edit_distance(left, right, most)
    return 0.0 if edits is None else 1 - edits / longest


def _says_otherwise(left: str, right: str) -> bool:
    """Whether the texts differ by a number, which one edit changes and which makes them different texts."""
    return re.findall(r"\d+", left) != re.findall(r"\d+", right)


def edit_distance(left: str, right: str, most: int) -> int | None:
    """The fewest insertions, deletions, substitutions and swaps of neighbours from one to the other; None above most.

    Damerau 1964, in the band of the diagonal that `most` allows.
    """
    rows: list[dict[int, int]] = [{j: j for j in range(most + 1)}]
    for i, sign in enumerate(left, 1):
        row: dict[int, int] = {}
        for j in range(max(0, i - most), min(len(right), i + most) + 1):
            best = rows[-1].get(j, most) + 1
            if j:
                best = min(best, row.get(j - 1, most) + 1, rows[-1].get(j - 1, most + 1) + (sign != right[j - 1]))
                if i > 1 and j > 1 and sign == right[j - 2] and left[i - 2] == right[j - 1]:
                    best = min(best, rows[-2].get(j - 2, most) + 1)
            row[j] = best
        if min(row.values()) > most:
            return None
        rows = [rows[-1], row]
    found = rows[-1].get(len(right), most + 1)
    return found if found <= most else None


@lru_cache(maxsize=8192)
def _shingles(text: str) -> frozenset[str]:
    size = _size(text)
    padded = f" {text} ".ljust(size)
    return frozenset(padded[i : i + size] for i in range(len(padded) - size + 1))


def _size(text: str) -> int:
    return 2 if 2 * len(HAN.findall(text[:200])) > len(text[:200]) else 3


def _hashes(text: str) -> Any:  # Any: an array of 32-bit hashes
    """The hashes of a text's shingles: their code points mixed by a multiplication (Knuth, 6.4)."""
    import numpy as np

    size = _size(text)
    points = np.frombuffer(f" {text} ".ljust(size).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    mixed = np.zeros(len(points) - size + 1, dtype=np.uint64)
    for i in range(size):
        mixed = mixed * np.uint64(1_000_003) + points[i : len(points) - size + 1 + i]
    return np.unique((mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32))
