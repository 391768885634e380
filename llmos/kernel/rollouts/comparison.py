"""How far two answers to the same call agree: the share of its inputs with the same output."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from math import sqrt

from llmos.abi.json_type import Json
from llmos.abi.task import Output, find_spec

NEAR = 0.1  # of two scores
ALIKE = 0.95  # the cosine of two vectors


def agreement(task: str, ours: Sequence[Json], others: Sequence[Json]) -> float:
    """From 0 to 1; an answer with another number of outputs agrees in none."""
    spec = find_spec(task)
    if spec is None or len(ours) != len(others) or not ours:
        return 0.0
    same = SAME[spec.output]
    return sum(same(one, other) for one, other in zip(ours, others, strict=True)) / len(ours)


def disagreeing(task: str, ours: Sequence[Json], others: Sequence[Json]) -> list[int]:
    """The places of the inputs whose outputs differ."""
    spec = find_spec(task)
    if spec is None or len(ours) != len(others):
        return list(range(len(ours)))
    same = SAME[spec.output]
    return [i for i, (one, other) in enumerate(zip(ours, others, strict=True)) if not same(one, other)]


def _label(one: Json, other: Json) -> bool:
    if "labels" in one or "labels" in other:
        return _set(one.get("labels")) == _set(other.get("labels"))
    return bool(one.get("label") == other.get("label"))


def _set(labels: Json) -> set[str]:
    return {str(one.get("label") if isinstance(one, dict) else one) for one in labels or ()}


def _spans(one: Json, other: Json) -> bool:
    return _places(one) == _places(other)


def _places(one: Json) -> set[tuple[Json, ...]]:
    return {(span.get("start"), span.get("end"), span.get("label")) for span in one.get("spans", ())}


def _text(one: Json, other: Json) -> bool:
    return bool(one.get("text") == other.get("text"))


def _message(one: Json, other: Json) -> bool:
    return bool(one.get("message") == other.get("message"))


def _score(one: Json, other: Json) -> bool:
    return abs(float(one["score"]) - float(other["score"])) <= NEAR


def _ranking(one: Json, other: Json) -> bool:
    first = [ranked[0]["index"] if ranked else None for ranked in (one, other)]
    return first[0] == first[1]


def _vector(one: Json, other: Json) -> bool:
    if one["dim"] != other["dim"]:
        return False
    left, right = (struct.unpack(f"<{len(x['data']) // 4}f", x["data"]) for x in (one, other))
    norms = sqrt(sum(x * x for x in left) * sum(x * x for x in right))
    return norms > 0.0 and sum(a * b for a, b in zip(left, right, strict=True)) >= ALIKE * norms


SAME: dict[Output, Callable[[Json, Json], bool]] = {
    Output.LABEL: _label,
    Output.SPANS: _spans,
    Output.ANSWER: _text,
    Output.VECTOR: _vector,
    Output.SCORE: _score,
    Output.RANKING: _ranking,
    Output.TEXT: _text,
    Output.MESSAGE: _message,
}
