"""The noises as augmenters: what a reader understands through, by the edits that behaviour suites make too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from llmos.abi.augmentation import AUGMENTERS, ChangeKind
from llmos.data.augmentation.augmenter import Augmenter, Change, ChangeableText, Material, change_texts
from llmos.data.noise import NOISES, Edit


def _edits_of(name: str, passages: Sequence[ChangeableText], strength: float) -> list[list[Edit]]:
    noise = NOISES[name]
    return [noise(one.text, one.rng, strength, 1) for one in passages]


def _prepare(name: str, material: Material) -> Change:
    return change_texts(name, partial(_edits_of, name), material)


NOISE_AUGMENTERS = tuple(
    Augmenter(name, partial(_prepare, name)) for name, spec in AUGMENTERS.items() if spec.kind is ChangeKind.NOISE
)
