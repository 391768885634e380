"""True positives, predictions and labels per class, and precision, recall and F1 from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import numpy as np

from llmos.evaluation.statistics.samples import Floats, Values, ratio
from llmos.tasks.tag import spans_of

Span = tuple[str, int, int]  # label, start, end
Rates = dict[str, float]  # precision, recall, f1


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Of one class: how often it was given rightly, given at all, and true."""

    hits: int = 0
    given: int = 0
    true: int = 0

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(self.hits + other.hits, self.given + other.given, self.true + other.true)

    def rates(self) -> Rates:
        """Zero, and never a division by it, where nothing was given or true."""
        return {
            "precision": self.hits / max(1, self.given),
            "recall": self.hits / max(1, self.true),
            "f1": 2 * self.hits / max(1, self.given + self.true),
        }


Counts = dict[str, ClassCounts]  # by class


def entities(true: Iterable[Sequence[str]], given: Iterable[Sequence[str]]) -> Counts:
    """Whole entities of IOB2 tags, by kind: every kind that is true or given somewhere, as seqeval counts them."""
    return count_spans((set(spans_of(tags)) for tags in true), (set(spans_of(tags)) for tags in given))


def count_spans(true: Iterable[Set[Span]], given: Iterable[Set[Span]]) -> Counts:
    """Whole spans of each row, by label: a hit has the label, the start and the end."""
    tally: Counts = {}
    for truth, answer in zip(true, given, strict=True):
        for span in truth | answer:
            one = ClassCounts(int(span in truth and span in answer), int(span in answer), int(span in truth))
            tally[span[0]] = tally.get(span[0], ClassCounts()) + one
    return dict(sorted(tally.items()))


def total(tally: Counts) -> ClassCounts:
    return sum(tally.values(), ClassCounts())


def averages(tally: Counts) -> dict[str, Rates]:
    """By way of averaging: each class alike (macro), each answer alike (micro), each class by its true answers.

    A class that is neither true nor given in any row says nothing of the model, and is in no macro average.
    """
    rates = [(count.rates(), count.true) for count in tally.values() if count.true or count.given]
    weight = max(1, total(tally).true)
    return {
        "macro": {key: sum(one[key] for one, _ in rates) / max(1, len(rates)) for key in ClassCounts().rates()},
        "micro": total(tally).rates(),
        "weighted": {key: sum(one[key] * true for one, true in rates) / weight for key in ClassCounts().rates()},
    }


def summary(first: str, value: float, tally: Counts) -> dict[str, float]:
    """The headline and the averages; plain f1, precision and recall are macro for classes and micro for entities."""
    by = averages(tally)
    plain = by["micro" if first == "f1" else "macro"]
    metrics = {first: value, "f1": plain["f1"], "precision": plain["precision"], "recall": plain["recall"]}
    return metrics | {f"{name}_{key}": rate for name, rates in by.items() for key, rate in rates.items()}


def summaries(first: str, value: Floats | None, hits: Floats, given: Floats, true: Floats) -> Values:
    """`summary` of many tallies at once, each [tallies, classes]; `value` is None where it is the f1 of entities.

    A class that is neither true nor given in a resample is left out of its macro average.
    """
    rates = {"precision": ratio(hits, given), "recall": ratio(hits, true), "f1": ratio(2 * hits, given + true)}
    count = (given + true > 0).sum(axis=1)
    sums = hits.sum(axis=1), given.sum(axis=1), true.sum(axis=1)
    micro = {
        "precision": ratio(sums[0], sums[1]),
        "recall": ratio(sums[0], sums[2]),
        "f1": ratio(2 * sums[0], sums[1] + sums[2]),
    }
    by = {
        "macro": {key: ratio(rate.sum(axis=1), count.astype(np.float64)) for key, rate in rates.items()},
        "micro": micro,
        "weighted": {key: ratio((rate * true).sum(axis=1), sums[2]) for key, rate in rates.items()},
    }
    plain = by["micro" if first == "f1" else "macro"]
    found = {first: micro["f1"] if value is None else value}
    found |= {"f1": plain["f1"], "precision": plain["precision"], "recall": plain["recall"]}
    return found | {f"{name}_{key}": rate for name, these in by.items() for key, rate in these.items()}


def per_class(tally: Counts) -> dict[str, dict[str, float]]:
    """The rates of each class, with how often it was true as its support."""
    return {name: {**count.rates(), "support": float(count.true)} for name, count in tally.items()}
