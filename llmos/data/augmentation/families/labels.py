"""Changed rows of the labels family: another text with the same labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmos.abi.augmentation import ChangeKind
from llmos.data.augmentation.places import Place
from llmos.data.noise import Edit, apply
from llmos.data.row import LabelRow

TEXT = "text"
REFUSED: Mapping[ChangeKind, str] = {ChangeKind.TAGGED: "its rows have no tags of words"}


def passages(row: LabelRow, kind: ChangeKind) -> dict[str, tuple[str, tuple[Place, ...]]]:
    """The text; nothing in it must stay."""
    return {TEXT: (row.input[TEXT], ())}


def with_edits(row: LabelRow, edits: Mapping[str, Sequence[Edit]]) -> LabelRow | None:
    """The row with another text; None where nothing is left of it."""
    text = apply(row.input[TEXT], edits[TEXT])
    return replace(row, input={**row.input, TEXT: text}) if text.strip() else None
