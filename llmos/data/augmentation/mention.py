"""mention: entities replaced by others of their label, from the training rows alone (Dai & Adel 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from llmos.data.augmentation.augmenter import Augmenter, Change, Material
from llmos.data.augmentation.families.tags import entities_of, from_spans, text_of
from llmos.data.augmentation.places import is_unspaced, move_places
from llmos.data.char_spans import CharSpan
from llmos.data.noise import Edit, apply
from llmos.data.row import TagRow
from llmos.tasks.tag import spans_of

REPLACED = 0.5  # of a row's entities, at least one


@dataclass(frozen=True, slots=True, order=True)
class Mention:
    """An entity of the training rows: its words, and how it is written in a text."""

    words: tuple[str, ...]
    text: str


Pools = Mapping[str, Sequence[Mention]]


def prepare(material: Material) -> Change:
    pools = _pools(material.rows)

    def change(rows: Sequence[TagRow], rngs: Sequence[Random], strength: float) -> list[TagRow | None]:
        return [_replace_mentions(row, rng, pools) for row, rng in zip(rows, rngs, strict=True)]

    return change


def _pools(rows: Sequence[TagRow]) -> Pools:
    """Every distinct mention of each label, in the order of its words."""
    found: dict[str, set[Mention]] = {}
    for row in rows:
        for (start, end), (label, first, after) in zip(
            (place for place, _ in entities_of(row)), spans_of(row.tags), strict=True
        ):
            words = tuple(row.input["tokens"][first:after])
            found.setdefault(label, set()).add(Mention(words, text_of(row)[start:end] if row.text else _join(words)))
    return {label: sorted(some) for label, some in found.items()}


def _join(words: Sequence[str]) -> str:
    return ("" if all(map(is_unspaced, words)) else " ").join(words)


def _replace_mentions(row: TagRow, rng: Random, pools: Pools) -> TagRow | None:
    found = entities_of(row)
    own = _own(row)
    open_to = [i for i, (_, label) in enumerate(found) if len(pools[label]) > 1]
    if not open_to:
        return None
    count = max(1, round(len(open_to) * REPLACED))
    new: dict[int, Mention] = {}
    for i in sorted(rng.sample(open_to, count)):
        pool = pools[found[i][1]]
        chosen = pool[rng.randrange(len(pool))]
        if chosen.words != own[i].words:
            new[i] = chosen
    if not new:
        return None
    return _in_words(row, new) if row.text is None else _in_text(row, new)


def _own(row: TagRow) -> list[Mention]:
    tokens = row.input["tokens"]
    return [Mention(tuple(tokens[first:after]), "") for _, first, after in spans_of(row.tags)]


def _in_words(row: TagRow, new: Mapping[int, Mention]) -> TagRow:
    words: list[str] = []
    tags: list[str] = []
    at = 0
    for i, (label, first, after) in enumerate(spans_of(row.tags)):
        entity = new[i].words if i in new else row.input["tokens"][first:after]
        words += [*row.input["tokens"][at:first], *entity]
        tags += [*row.tags[at:first], *(f"{'I' if nth else 'B'}-{label}" for nth in range(len(entity)))]
        at = after
    words, tags = [*words, *row.input["tokens"][at:]], [*tags, *row.tags[at:]]
    return replace(row, input={**row.input, "tokens": words}, tags=tuple(tags))


def _in_text(row: TagRow, new: Mapping[int, Mention]) -> TagRow | None:
    found = entities_of(row)
    edits = [Edit(*found[i][0], mention.text) for i, mention in sorted(new.items())]
    text = apply(text_of(row), edits)
    places = move_places([place for place, _ in found], edits)
    return from_spans(row, text, [CharSpan(*place, label) for place, (_, label) in zip(places, found, strict=True)])


AUGMENTER = Augmenter("mention", prepare)
