"""chrF and BLEU from counts of each answer: sums of these give the scores of any choice of answers."""

from __future__ import annotations

from collections import Counter

import numpy as np

from llmos.evaluation.statistics.samples import Floats, Values, ratio

ORDERS = 6  # of character n-grams (Popovic 2015)
BETA = 2
BLEU_ORDERS = 4
OVERLAP_COUNTS = 3 * ORDERS + 2 * BLEU_ORDERS + 2


def overlap_counts(true: str, given: str) -> tuple[float, ...]:
    """By order of characters: n-grams given, true and in both; then BLEU's matches and totals, and both lengths."""
    from sacrebleu.metrics import BLEU  # only what translates needs it

    counts: list[float] = []
    for size in range(1, ORDERS + 1):
        a, b = _characters(true, size), _characters(given, size)
        counts += [b.total() if a else 0, a.total(), (a & b).total()]
    bleu = BLEU(effective_order=True).corpus_score([given], [[true]])
    return (*counts, *map(float, bleu.counts), *map(float, bleu.totals), float(bleu.sys_len), float(bleu.ref_len))


def overlap_scores(sums: Floats) -> Values:
    """chrF and BLEU, from 0 to 1, of sums of these counts [n, counts], as sacrebleu has them over all rows together."""
    return {"chrf": _chrf(sums[:, : 3 * ORDERS]), "bleu": _bleu(sums[:, 3 * ORDERS :])}


def _chrf(sums: Floats) -> Floats:
    given, true, both = (sums[:, k::3] for k in range(3))
    known = (given > 0) & (true > 0)
    orders = known.sum(axis=1).astype(np.float64)
    precision = ratio((ratio(both, given) * known).sum(axis=1), orders)
    recall = ratio((ratio(both, true) * known).sum(axis=1), orders)
    return ratio((1 + BETA**2) * precision * recall, BETA**2 * precision + recall)


def _bleu(sums: Floats) -> Floats:
    from sacrebleu.metrics import BLEU

    whole = np.rint(sums).astype(int)
    matches, totals = whole[:, :BLEU_ORDERS], whole[:, BLEU_ORDERS : 2 * BLEU_ORDERS]
    scores = [
        BLEU.compute_bleu(list(a), list(b), int(given), int(true), smooth_method="exp", effective_order=True).score
        for a, b, (given, true) in zip(matches, totals, whole[:, 2 * BLEU_ORDERS :], strict=True)
    ]
    return np.array(scores, dtype=np.float64) / 100


def _characters(text: str, size: int) -> Counter[str]:
    bare = "".join(text.split())
    return Counter(bare[i : i + size] for i in range(len(bare) - size + 1))
