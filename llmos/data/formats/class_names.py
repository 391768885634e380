"""Names of classes: what a column's numbers stand for, as Hugging Face's datasets writes it into schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping

from llmos.abi.json_type import Json

KEY = b"huggingface"  # of a schema's metadata


def names_in_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """The names by column; none where the metadata has none, or is not as it should be."""
    try:
        found = json.loads((metadata or {}).get(KEY, b"{}"))
    except ValueError:
        return {}
    info = found.get("info") if isinstance(found, dict) else None
    return names_in_features(info.get("features") if isinstance(info, dict) else None)


def names_in_features(features: Json) -> dict[str, tuple[str, ...]]:
    """The names of every column that is a ClassLabel, or a list of them."""
    if not isinstance(features, dict):
        return {}
    named = {column: _names(feature) for column, feature in features.items()}
    return {column: names for column, names in named.items() if names}


def _names(feature: Json) -> tuple[str, ...]:
    if isinstance(feature, list) and len(feature) == 1:
        return _names(feature[0])
    if not isinstance(feature, dict):
        return ()
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list):
        return tuple(map(str, names))
    return _names(feature.get("feature"))
