"""Evaluation of the tags family: entity-level F1 of IOB2 tags, as seqeval counts it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import log

import numpy as np
from torch import Tensor

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import RowOutcome, SpanMark, clip
from llmos.data.row import TagRow
from llmos.evaluation.calibration import Indices, temper
from llmos.evaluation.confidence import Answers, Decisions
from llmos.evaluation.counts import Counts, Span, count_spans, per_class, summaries, summary, total
from llmos.evaluation.evaluation_result import MISTAKES, EvaluationResult, Mistake, Probabilities
from llmos.evaluation.outcomes import BOUNDARY, HIT, INVENTED, LEAST_LIKELY, MISSED, TYPE, row_digest
from llmos.evaluation.statistics.samples import Floats, Sample, Sums, Values, columns_of, ratio
from llmos.tasks import Settings
from llmos.tasks.calibration import Calibration
from llmos.tasks.tag import OUTSIDE, fill_tokenless, spans_of
from llmos.training.examples import Example
from llmos.training.objectives.tags import TagTarget


@dataclass(frozen=True, slots=True)
class TagPrediction:
    """The probability of each tag for each word, [words, tags], and which words have no token to read it from."""

    probabilities: Probabilities
    tokenless: frozenset[int] = frozenset()

    def fill(self, tags: Sequence[str]) -> list[str]:
        """The tags with those of words without a token made from their neighbours', as served answers have them."""
        if not self.tokenless:
            return list(tags)
        return fill_tokenless(tags, [None if i in self.tokenless else i for i in range(len(tags))])


def predictions_of(
    task: str, head: object, examples: Sequence[Example[TagTarget]], logits: Tensor, settings: Settings
) -> Iterator[TagPrediction]:
    by_token = logits.softmax(-1).cpu().numpy()
    start = 0
    for one in examples:
        firsts = one.rendered.context.firsts
        tokenless = frozenset(i for i, first in enumerate(firsts) if first is None)
        yield TagPrediction(by_token[start : start + one.size][[first or 0 for first in firsts]], tokenless)
        start += one.size


def from_outputs(rows: Sequence[TagRow], outputs: Sequence[Json], settings: Settings) -> list[TagPrediction]:
    """The served spans as tags of the row's words. Each word of a span has its score; others, of which no score is
    served, count as certain."""
    index = {label: i for i, label in enumerate(settings.labels)}
    found = []
    for row, output in zip(rows, outputs, strict=True):
        places = list(accumulate((len(word) + 1 for word in row.input["tokens"]), initial=0))
        shares = np.zeros((len(row.tags), len(settings.labels)), np.float32)
        shares[:, index[OUTSIDE]] = 1.0
        for span in output["spans"]:
            first, after = bisect_left(places, span["start"]), bisect_left(places, span["end"])
            for i in range(first, after):
                tag = index.get(f"{'B' if i == first else 'I'}-{span['label']}", index.get(f"I-{span['label']}", 0))
                shares[i] = (1 - span["score"]) / max(1, len(settings.labels) - 1)
                shares[i, tag] = span["score"]
        found.append(TagPrediction(shares))
    return found


def metric(name: str, rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings) -> float | None:
    return _f1(rows, predicted, settings) if name == "f1" else None


def _f1(rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings) -> float:
    given = [_tags_given(one, settings) for one in predicted]
    return total(count_entities(rows, _true_tags(rows, predicted), given)).rates()["f1"]


def _tags_given(one: TagPrediction, settings: Settings) -> list[str]:
    return one.fill([settings.labels[i] for i in one.probabilities.argmax(-1)])


def _true_tags(rows: Sequence[TagRow], predicted: Sequence[TagPrediction]) -> list[list[str]]:
    """As they are compared: a word without a token is neither right nor wrong by itself."""
    return [one.fill(row.tags) for row, one in zip(rows, predicted, strict=True)]


def apply_calibration(
    predicted: Sequence[TagPrediction], calibration: Calibration, settings: Settings
) -> list[TagPrediction]:
    """The predictions with the probabilities that are served."""
    heat = calibration.temperature
    return [
        replace(one, probabilities=temper(one.probabilities.astype(np.float64), heat).astype(np.float32))
        for one in predicted
    ]


def decisions(rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings) -> Decisions:
    """One decision a word; words without a token are none."""
    index = {label: i for i, label in enumerate(settings.labels)}
    shares = np.concatenate([one.probabilities for one in predicted]).astype(np.float64)
    true = np.array([index.get(tag, -1) for row in rows for tag in row.tags], np.int64)
    is_read = np.array([i not in one.tokenless for one in predicted for i in range(len(one.probabilities))], np.bool_)
    places = np.repeat(np.arange(len(predicted)), [len(one.probabilities) for one in predicted])
    is_decided = is_read & (true >= 0)
    return Decisions(shares[is_decided], true[is_decided], places[is_decided])


def answers(
    rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings, given: Indices | None = None
) -> Answers | None:
    return None


def judge(
    task: str, rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings
) -> EvaluationResult:
    tags = [_tags_given(one, settings) for one in predicted]
    true = _true_tags(rows, predicted)
    words = [a == b for x, y in zip(true, tags, strict=True) for a, b in zip(x, y, strict=True)]
    kinds = tuple(sorted({label.partition("-")[2] for label in settings.labels} - {""}))
    tally = count_entities(rows, true, tags)
    metrics = summary("f1", _f1(rows, predicted, settings), tally)
    metrics["accuracy"] = sum(words) / max(1, len(words))
    return EvaluationResult(
        metrics,
        per_class(tally),
        ("O", *kinds),
        _confused_words(true, tags, kinds),
        _tag_mistakes(rows, predicted, tags),
    )


def sample_of(task: str, rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings) -> Sample:
    """A sentence is a unit; of each kind of entity how many were given rightly, given, and true."""
    tags = [_tags_given(one, settings) for one in predicted]
    true = _true_tags(rows, predicted)
    tallies = [count_entities([row], [x], [given]) for row, x, given in zip(rows, true, tags, strict=True)]
    index = {kind: i for i, kind in enumerate(sorted({kind for tally in tallies for kind in tally}))}
    kinds = len(index)
    cells = np.zeros((len(rows), 2 + 3 * kinds))
    for i, (x, given, tally) in enumerate(zip(true, tags, tallies, strict=True)):
        cells[i, 0] = sum(a == b for a, b in zip(x, given, strict=True))
        cells[i, 1] = len(given)
        for kind, count in tally.items():
            cells[i, [2 + k * kinds + index[kind] for k in range(3)]] = count.hits, count.given, count.true

    def metrics(sums: Floats) -> Values:
        hits, gives, trues = (sums[:, 2 + kinds * k : 2 + kinds * (k + 1)] for k in range(3))
        return summaries("f1", None, hits, gives, trues) | {"accuracy": ratio(sums[:, 0], sums[:, 1])}

    return Sums(columns_of(cells.T), metrics, len(rows))


def target_of(row: TagRow) -> str:
    return _mark_mistakes(row.input["tokens"], row.tags)


def outcomes(
    task: str, rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings
) -> Iterator[RowOutcome]:
    """What was found in each text, its entities marked by their characters."""
    index = {label: i for i, label in enumerate(settings.labels)}
    for place, (row, one) in enumerate(zip(rows, predicted, strict=True)):
        tags, true_tags = _tags_given(one, settings), one.fill(row.tags)
        marked = mark_spans(_true_places(row, true_tags), _places(row, tags))
        kinds = tuple(dict.fromkeys(mark.kind for mark in marked if mark.kind != HIT))
        read = [i for i in range(len(row.tags)) if i not in one.tokenless]
        likely = [float(one.probabilities[i, index[row.tags[i]]]) if row.tags[i] in index else 0.0 for i in read]
        words = row.input["tokens"]
        yield RowOutcome(
            place,
            row_digest(row),
            row.file,
            row.line,
            (clip(" ".join(words) if row.text is None else row.text),),
            target_of(row),
            _mark_mistakes(words, tags),
            float(not kinds),
            kinds,
            min((float(one.probabilities[i].max()) for i in read), default=None),
            -sum(log(max(share, LEAST_LIKELY)) for share in likely),
            tuple(sorted({mark.label for mark in marked} - {""})),
            tuple(sorted({mark.given for mark in marked} - {""})),
            marked,
        )


def mark_spans(true: set[Span], given: set[Span]) -> tuple[SpanMark, ...]:
    """Every true and every given span, in order: hit; boundary, type or both, where another one overlaps it; missed;
    invented. The one that overlaps most is its counterpart."""
    marks = [SpanMark(start, end, HIT, label, label) for label, start, end in true & given]
    lone, left = sorted(true - given, key=lambda one: one[1:]), set(given - true)
    for label, start, end in lone:
        beside = [one for one in left if one[1] < end and start < one[2]]
        if not beside:
            marks.append(SpanMark(start, end, MISSED, label))
            continue
        near = max(beside, key=lambda one: (min(end, one[2]) - max(start, one[1]), one[0] == label, -one[1]))
        left.discard(near)
        is_same_place = (start, end) == near[1:]
        marks.append(SpanMark(start, end, TYPE if is_same_place else BOUNDARY, label))
        marks.append(SpanMark(near[1], near[2], TYPE if label != near[0] else BOUNDARY, given=near[0]))
    marks += [SpanMark(start, end, INVENTED, given=label) for label, start, end in left]
    return tuple(sorted(marks, key=lambda one: (one.start, one.end, one.kind, one.label, one.given)))


def count_entities(rows: Sequence[TagRow], true: Sequence[Sequence[str]], given: Sequence[Sequence[str]]) -> Counts:
    """Entities by their characters: one that the row marks inside of a word is missed by a span of whole words."""
    truth = [_true_places(row, tags) for row, tags in zip(rows, true, strict=True)]
    return count_spans(truth, (_places(row, tags) for row, tags in zip(rows, given, strict=True)))


def _true_places(row: TagRow, tags: Sequence[str]) -> set[Span]:
    return _places(row, tags) if row.spans is None else {(label, start, end) for start, end, label in row.spans}


def _places(row: TagRow, tags: Sequence[str]) -> set[Span]:
    offsets = row.offsets
    return {(label, offsets[first][0], offsets[after - 1][1]) for label, first, after in spans_of(tags)}


def _confused_words(
    true: Sequence[Sequence[str]], given: Sequence[Sequence[str]], kinds: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """By word and kind of entity, whatever its place in the entity."""
    index = {kind: i for i, kind in enumerate(("", *kinds))}
    counts = np.zeros((len(index), len(index)), dtype=int)
    for x, y in zip(true, given, strict=True):
        for a, b in zip(x, y, strict=True):
            counts[index[a.partition("-")[2]], index[b.partition("-")[2]]] += 1
    return tuple(tuple(int(n) for n in line) for line in counts)


def _tag_mistakes(
    rows: Sequence[TagRow], predicted: Sequence[TagPrediction], tags: Sequence[Sequence[str]]
) -> tuple[Mistake, ...]:
    worst: list[tuple[float, Mistake]] = []
    for row, one, given in zip(rows, predicted, tags, strict=True):
        true = one.fill(row.tags)
        wrong = [float(one.probabilities[i].max()) for i, tag in enumerate(given) if tag != true[i]]
        if wrong:
            words = row.input["tokens"]
            mistake = Mistake(
                " ".join(words),
                _mark_mistakes(words, row.tags),
                _mark_mistakes(words, given),
                max(wrong),
                row.file,
                row.line,
            )
            worst.append((len(wrong) + max(wrong), mistake))
    worst.sort(key=lambda pair: -pair[0])
    return tuple(mistake for _, mistake in worst[:MISTAKES])


def _mark_mistakes(words: Sequence[str], tags: Sequence[str]) -> str:
    spans = [f"{label}: {' '.join(words[first:after])}" for label, first, after in spans_of(tags)]
    return "; ".join(spans) or "none"
