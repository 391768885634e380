"""Labels that look wrong, by confident learning over out-of-fold predictions; for tags by word and by span."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from llmos.abi.json_type import Json
from llmos.data.checks.confident_learning import label_issues
from llmos.data.checks.finding import EXAMPLES, CheckFinding, Severity, Suspect
from llmos.data.checks.subject import Predictions, Stored, Subject, show_row
from llmos.data.row import TagRow

KIND = "suspects"
AGREEMENT = "agreement"  # among a finding's counts, a share
MOST_PAIRS = 8
MOST_EXAMPLES = 4 * EXAMPLES
LEAST_ROWS = 50
SURE_AGREEMENT = 0.85  # of labels with the model of the other rows; below, its own mistakes prevail


def find(subject: Subject) -> Iterator[CheckFinding]:
    """One finding with all suspects, the likeliest errors first; nothing without predictions."""
    made = subject.predictions
    if made is None or len(made.places) < LEAST_ROWS:
        return
    suspects = [one for one in suspects_of(made) if one.row_id not in subject.kept.get(KIND, ())]
    if not suspects:
        return
    by_id = {row.id: row for row, _ in made.places}
    pairs = Counter(f"{one.given} -> {one.suggestion}" for one in suspects if not one.words)
    spans = sum(len(one.words) for one in suspects)
    what = "rows have a label" if not spans else f"sentences have words ({spans:,}) with a tag"
    sentence = (
        f"{len(suspects):,} {what} that looks wrong: a model of the other rows is confident of another. Look at the "
        f"first ones{_doubt(made)}"
    )
    examples = tuple(_example(one, by_id[one.row_id]) for one in suspects[:MOST_EXAMPLES])
    counts: dict[str, Json] = {**dict(pairs.most_common(MOST_PAIRS)), **({"words": spans} if spans else {})}
    counts[AGREEMENT] = round(agreement_of(made), 3)
    ids = tuple(one.row_id for one in suspects)
    yield CheckFinding(
        KIND, Severity.WARNING, sentence, ids, counts, examples, fixes=("drop", "relabel"), suspects=tuple(suspects)
    )


def _doubt(made: Predictions) -> str:
    """What to know where that model is often wrong itself, as it is in a language that its base does not know."""
    agreement = agreement_of(made)
    if agreement >= SURE_AGREEMENT:
        return ""
    return (
        f". That model agrees with only {agreement:.0%} of the labels, so many of these are its own mistakes: relabel "
        "none unread, or check with another --base"
    )


def agreement_of(made: Predictions) -> float:
    """The share of labels that the model of the other rows would give as well; of several labels, each counts."""
    if made.given.ndim == 2:
        return float(((made.probabilities >= 0.5) == made.given.astype(bool)).mean())
    return float((made.probabilities.argmax(1) == made.given).mean())


def suspects_of(made: Predictions) -> list[Suspect]:
    """The suspects of all rows, by score."""
    if made.given.ndim == 2:
        return _of_many(made)
    found = label_issues(made.given, made.probabilities)
    if made.places and isinstance(made.places[0][0].row, TagRow):
        return _of_tags(made, found.places.tolist(), found.suggested.tolist(), found.margins.tolist())
    return [
        Suspect(made.places[at][0].id, made.labels[made.given[at]], made.labels[other], round(float(margin), 4))
        for at, other, margin in zip(found.places, found.suggested, found.margins, strict=True)
    ]


def _of_many(made: Predictions) -> list[Suspect]:
    """Of rows with several labels: each label is a question of its own, answered yes or no."""
    changes: dict[int, dict[int, float]] = defaultdict(dict)
    for label in range(len(made.labels)):
        given = made.given[:, label].astype(np.int64)
        if 0 < given.sum() < len(given):
            yes = made.probabilities[:, label]
            found = label_issues(given, np.stack([1 - yes, yes], axis=1))
            for at, margin in zip(found.places.tolist(), found.margins.tolist(), strict=True):
                changes[at][label] = margin
    suspects = []
    for at, flips in changes.items():
        own = made.given[at].astype(bool)
        other = own.copy()
        for label in flips:
            other[label] = not other[label]
        if other.any():
            suspects.append(
                Suspect(made.places[at][0].id, _names(made, own), _names(made, other), round(max(flips.values()), 4))
            )
    return sorted(suspects, key=lambda one: -one.score)


def _names(made: Predictions, chosen: Any) -> str:  # Any: an array of booleans
    return "|".join(name for name, is_one in zip(made.labels, chosen, strict=True) if is_one)


def _of_tags(
    made: Predictions, places: Sequence[int], others: Sequence[int], margins: Sequence[float]
) -> list[Suspect]:
    """Of tags: a sentence is as suspicious as its worst word; its suggestion keeps the tags of all other words."""
    by_row: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
    rows: dict[str, Stored] = {}
    for at, other, margin in zip(places, others, margins, strict=True):
        row, word = made.places[at]
        rows[row.id] = row
        by_row[row.id].append((word, other, margin))
    suspects = []
    for id, found in by_row.items():
        tags = list(rows[id].row.tags)
        for word, other, _ in found:
            tags[word] = made.labels[other]
        given = " ".join(rows[id].row.tags)
        suggestion = " ".join(whole_tags(tags))
        if suggestion != given:
            words = tuple(sorted(word for word, _, _ in found))
            suspects.append(Suspect(id, given, suggestion, round(max(one[2] for one in found), 4), words))
    return sorted(suspects, key=lambda one: -one.score)


def whole_tags(tags: Sequence[str]) -> list[str]:
    """IOB2 tags in which an I- that follows nothing of its kind is a B-."""
    whole: list[str] = []
    for tag in tags:
        before = whole[-1] if whole else "O"
        starts = tag.startswith("I-") and before[2:] != tag[2:]
        whole.append(f"B-{tag[2:]}" if starts else tag)
    return whole


def _example(one: Suspect, row: Stored) -> Mapping[str, Json]:
    if not one.words:
        return {
            "id": one.row_id,
            "text": show_row(row),
            "label": one.given,
            "likelier": one.suggestion,
            "score": one.score,
        }
    words, given, other = row.row.input["tokens"], one.given.split(" "), one.suggestion.split(" ")
    changed = [f"{words[at]}: {given[at]} -> {other[at]}" for at in range(len(words)) if given[at] != other[at]]
    return {"id": one.row_id, "text": show_row(row), "tags": changed, "score": one.score}
