"""How rows of each family take changed texts: a file for each family, found by a task's declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llmos.abi.augmentation import AUGMENTERS, ChangeKind
from llmos.abi.error import BadInput
from llmos.abi.task import Family, spec_of
from llmos.data.augmentation.families import labels, pairs, spans, tags, text
from llmos.data.augmentation.places import Place
from llmos.data.noise import Edit

Passages = Mapping[str, tuple[str, tuple[Place, ...]]]


class Rewriting(Protocol):
    """What a family's file has; its rows are of the family's own type, which Any stands for here."""

    REFUSED: Mapping[ChangeKind, str]
    """The kinds of changes that its rows do not take, with the reason."""

    def passages(self, row: Any, kind: ChangeKind) -> Passages:
        """The texts of a row that such a change may edit, by field, each with the places in it that must stay."""
        ...

    def with_edits(self, row: Any, edits: Mapping[str, Sequence[Edit]]) -> Any:
        """The row with these edits of its fields, its target moved with them; None where its target would be lost."""
        ...


FAMILIES: Mapping[Family, Rewriting] = {
    Family.LABELS: labels,
    Family.TAGS: tags,
    Family.SPANS: spans,
    Family.PAIRS: pairs,
    Family.TEXT: text,
}

FAMILY_DEFAULTS: Mapping[Family, tuple[str, ...]] = {
    Family.LABELS: ("swap", "delete", "insert", "punctuate"),
    Family.TAGS: ("mention", "shuffle", "token", "delete"),
}
"""The augmenters among which `auto` chooses: they need the rows alone. Other families have none."""

FAMILY_VIEWS: Mapping[Family, tuple[str, ...]] = {Family.LABELS: ("swap", "delete"), Family.TAGS: ("token",)}
"""The augmenters that make changed copies of rows without labels, which are to be answered as the rows themselves."""


def rewriting_of(task: str) -> Rewriting:
    """How rows of this task take changes; BadInput for a task that has no rows to change."""
    family = FAMILIES.get(spec_of(task).family)
    if family is None:
        raise BadInput(f"{task} is not trained, so there are no rows of it to augment", task=task)
    return family


def refuse_unfit(task: str, names: Sequence[str]) -> None:
    """BadInput for the first augmenter that rows of this task do not take."""
    family = rewriting_of(task)
    for name in names:
        reason = family.REFUSED.get(AUGMENTERS[name].kind)
        if reason is not None:
            raise BadInput(
                f"The augmenter {name} is not for {task}: {reason}. There are: {', '.join(augmenters_for(task))}",
                key="augment",
                value=name,
                task=task,
                expected=list(augmenters_for(task)),
            )


def augmenters_for(task: str) -> tuple[str, ...]:
    """The augmenters that rows of this task take."""
    refused = rewriting_of(task).REFUSED
    return tuple(name for name, spec in AUGMENTERS.items() if spec.kind not in refused)
