"""Mending: what becomes of a dataset's rows by a check's findings and a user's choice. It writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.data.checks import labels as label_check
from llmos.data.checks.subject import Stored
from llmos.data.row import LabelRow, TagRow

MEASURING = "test"
SEPARATOR = "|"


@dataclass(frozen=True, slots=True)
class Mending:
    """The ids to drop, each for the kind that names it first, the new labels by id, and the ids that are kept."""

    dropped: Mapping[str, str]
    relabelled: Mapping[str, str]
    kept: Mapping[str, tuple[str, ...]]
    skipped_test_rows: int = 0  # which stay as they are, because they measure
    counts: Mapping[str, int] = field(default_factory=dict)


def plan(
    findings: Sequence[Mapping[str, Json]],
    test_ids: frozenset[str],
    *,
    drop: Sequence[str] = (),
    relabel: Sequence[str] = (),
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    least_score: float = 0.0,
    with_test: bool = False,
    with_doubt: bool = False,
) -> Mending:
    """The mending of these findings, in the form of a report's JSON.

    Kinds in `drop` lose their rows, kinds in `relabel` get the likelier labels. Rows in `keep` stay as they are, and
    are not reported again. `only` names row ids: no other row is changed. Test rows stay unless `with_test`. The labels
    of a model that is often wrong itself are refused unless `only` names the rows, or `with_doubt`.
    """
    by_kind = {str(one["kind"]): one for one in findings}
    _refuse_unknown([*drop, *relabel], by_kind)
    if not only and not with_doubt:
        _refuse_doubtful(relabel, by_kind)
    kept, chosen = frozenset(keep), frozenset(only)
    known = {id for one in findings for id in one["row_ids"]}
    if strange := sorted((kept | chosen) - known):
        raise BadInput(
            f"{strange[0]} is in no finding. Its ids: llmos data check NAME --json",
            key="keep",
            value=strange[0],
        )
    is_free = known - kept if not chosen else (known & chosen) - kept
    measuring = frozenset() if with_test else test_ids
    dropped: dict[str, str] = {}
    relabelled: dict[str, str] = {}
    skipped: set[str] = set()
    for kind in drop:
        for id in by_kind.get(kind, {"row_ids": ()})["row_ids"]:
            if id in is_free & measuring:
                skipped.add(id)
            elif id in is_free:
                dropped.setdefault(id, kind)
    for kind in relabel:
        for one in by_kind.get(kind, {}).get("suspects", ()):
            id = str(one["row_id"])
            if id not in is_free or id in dropped or float(one["score"]) < least_score:
                continue
            if id in measuring:
                skipped.add(id)
            else:
                relabelled[id] = str(one["suggestion"])
    decided = {kind: tuple(id for id in one["row_ids"] if id in kept) for kind, one in by_kind.items()}
    counts = Counter(dropped.values())
    return Mending(
        dropped,
        relabelled,
        {kind: ids for kind, ids in decided.items() if ids},
        len(skipped),
        {**{f"dropped {kind}": count for kind, count in counts.items()}, "relabelled": len(relabelled)},
    )


def relabel_row(stored: Stored, suggestion: str) -> Stored:
    """The row with this label; its id stays, because it is made of the text alone."""
    row: Any = stored.row  # Any: of the two families that have labels
    if isinstance(row, TagRow):
        tags = tuple(suggestion.split(" "))
        assert len(tags) == len(row.tags), "a suggestion has a tag for each word"
        spans = None if row.spans is None else _spans(row, tags)
        return replace(stored, row=replace(row, tags=tags, spans=spans))
    assert isinstance(row, LabelRow), "only labels and tags are suspects"
    names = tuple(suggestion.split(SEPARATOR)) if row.is_multi else (suggestion,)
    return replace(stored, row=replace(row, labels=names))


def _spans(row: TagRow, tags: Sequence[str]) -> tuple[tuple[int, int, str], ...]:
    """The characters of the tagged words; a span that the tags do not change keeps its own, which may part a word."""
    before, old = marked_words(row, row.tags), row.spans or ()
    found = []
    for new in marked_words(row, tags):
        own = [one for one in old if one[2] == new[2] and one[0] < new[1] and new[0] < one[1]]
        found.append(own[0] if new in before and own else new)
    return tuple(found)


def marked_words(row: TagRow, tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """The spans of whole words that IOB2 tags mark, as characters."""
    found: list[tuple[int, int, str]] = []
    for (start, end), tag in zip(row.offsets, tags, strict=True):
        if tag.startswith("B-"):
            found.append((start, end, tag[2:]))
        elif tag.startswith("I-") and found:
            found[-1] = (found[-1][0], end, found[-1][2])
    return found


def _refuse_unknown(kinds: Sequence[str], by_kind: Mapping[str, Mapping[str, Json]]) -> None:
    from llmos.data.checks.registry import KINDS

    for kind in kinds:
        if kind not in KINDS:
            raise BadInput(
                f"There is no kind of finding {kind!r}. There are: {', '.join(KINDS)}",
                key="kind",
                value=kind,
                expected=list(KINDS),
            )
        if kind in by_kind and not by_kind[kind]["fixes"]:
            raise BadInput(
                f"Rows of {kind} are no rows to drop or change: {by_kind[kind]['sentence']}", key="kind", value=kind
            )


def _refuse_doubtful(kinds: Sequence[str], by_kind: Mapping[str, Mapping[str, Json]]) -> None:
    """BadInput for labels that a model suggests which agrees with too few of the others."""
    for kind in kinds:
        agreement = by_kind.get(kind, {}).get("counts", {}).get(label_check.AGREEMENT)
        if agreement is not None and agreement < label_check.SURE_AGREEMENT:
            raise BadInput(
                f"The model that suggests these labels agrees with only {agreement:.0%} of all labels, so it is often "
                "wrong itself. Name the rows that you have read (--only ID), check with another --base, or relabel all "
                "the same: --with-doubt",
                key="with_doubt",
                reason="poor_model",
                agreement=agreement,
            )


def check_relabel(kinds: Sequence[str]) -> None:
    """BadInput unless these kinds have likelier labels."""
    for kind in kinds:
        if kind != label_check.KIND:
            raise BadInput(
                f"Only {label_check.KIND} can be relabelled, because only there a likelier label is known; {kind!r} "
                "can be dropped or kept",
                key="relabel",
                value=kind,
                expected=[label_check.KIND],
            )
