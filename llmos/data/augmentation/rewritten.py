"""Whole texts said anew by a model: paraphrase and back-translation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from llmos.data.augmentation.augmenter import Augmenter, Change, ChangeableText, Material, Rewriter, change_texts
from llmos.data.noise import Edit

LONGEST = 1 << 31  # of the seeds that a model takes


def _edits_of(source: Rewriter, passages: Sequence[ChangeableText], strength: float) -> list[list[Edit]]:
    seeds = [one.rng.randrange(LONGEST) for one in passages]
    texts = source.rewrite([one.text for one in passages], seeds)
    return [
        [Edit(0, len(one.text), text.strip())] if text.strip() and text.strip() != one.text.strip() else []
        for one, text in zip(passages, texts, strict=True)
    ]


def _prepare(name: str, material: Material) -> Change:
    return change_texts(name, partial(_edits_of, material.need_rewriter(name)), material)


REWRITING = tuple(Augmenter(name, partial(_prepare, name)) for name in ("paraphrase", "back-translation"))
