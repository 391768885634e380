"""The `metadata` of objects in OpenAI's shape: a few short texts that are kept and given back."""

from __future__ import annotations

from collections.abc import Mapping

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json

MOST_PAIRS, MOST_KEY, MOST_VALUE = 16, 64, 512  # characters


def check_metadata(given: Mapping[str, str] | None) -> dict[str, Json]:
    """The pairs; BadInput if there are too many, or one is too long."""
    pairs: dict[str, Json] = dict(given or {})
    is_small = all(len(key) <= MOST_KEY and len(value) <= MOST_VALUE for key, value in pairs.items())
    if len(pairs) > MOST_PAIRS or not is_small:
        raise BadInput(
            f"metadata has at most {MOST_PAIRS} pairs, of keys up to {MOST_KEY} and values up to {MOST_VALUE} "
            "characters",
            key="metadata",
        )
    return pairs
