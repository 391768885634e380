"""All augmenters by name."""

from __future__ import annotations

from collections.abc import Mapping

from llmos.data.augmentation import delete, insert, mention, punctuate, repeat, shuffle, swap, token
from llmos.data.augmentation.augmenter import Augmenter
from llmos.data.augmentation.noises import NOISE_AUGMENTERS
from llmos.data.augmentation.rewritten import REWRITING
from llmos.data.augmentation.substituted import SUBSTITUTING

REGISTRY: Mapping[str, Augmenter] = {
    one.name: one
    for one in (
        delete.AUGMENTER,
        insert.AUGMENTER,
        swap.AUGMENTER,
        punctuate.AUGMENTER,
        mention.AUGMENTER,
        shuffle.AUGMENTER,
        token.AUGMENTER,
        repeat.AUGMENTER,
        *NOISE_AUGMENTERS,
        *SUBSTITUTING,
        *REWRITING,
    )
}
