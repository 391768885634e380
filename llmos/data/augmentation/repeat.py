"""repeat: the row again as it is, which gives labels with few rows more weight (oversampling)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from llmos.data.augmentation.augmenter import Augmenter, Change, Material


def _repeat_rows(rows: Sequence[Any], rngs: Sequence[Random], strength: float) -> list[Any]:  # Any: as Change
    return list(rows)


def prepare(material: Material) -> Change:
    return _repeat_rows


AUGMENTER = Augmenter("repeat", prepare)
