"""Changed rows of the pairs family: both texts change, and the score stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmos.abi.augmentation import ChangeKind
from llmos.abi.json_type import Json
from llmos.data.augmentation.places import Place
from llmos.data.noise import Edit, apply
from llmos.data.row import PairRow

REFUSED: Mapping[ChangeKind, str] = {ChangeKind.TAGGED: "its rows have no tags of words"}


def passages(row: PairRow, kind: ChangeKind) -> dict[str, tuple[str, tuple[Place, ...]]]:
    """Every text, by its number."""
    return {str(i): (text, ()) for i, text in enumerate(row.texts)}


def with_edits(row: PairRow, edits: Mapping[str, Sequence[Edit]]) -> PairRow | None:
    """The row with other texts; None where nothing is left of one."""
    texts = [apply(text, edits.get(str(i), ())) for i, text in enumerate(row.texts)]
    if not all(text.strip() for text in texts):
        return None
    first, second = row.input
    others: Json = texts[1:] if isinstance(row.input[second], list) else texts[1]
    return replace(row, input={first: texts[0], second: others})
