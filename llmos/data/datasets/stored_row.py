"""A row of a stored dataset: the row itself, its id, the source's other columns, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic

from llmos.abi.json_type import Json
from llmos.data.row import R

NOTHING: Mapping[str, Json] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StoredRow(Generic[R]):
    """A row with its id: 16 hex signs, which survive edits, splits, merges and sampling.

    `extra` has the source's other columns. `origin` says how a row was made that no file had: the ids of its parents
    and by what (`{"parents": [...], "by": "swap"}`); None for rows that were read.
    """

    id: str
    row: R
    extra: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    origin: Mapping[str, Json] | None = None
