"""The space of a search: settings of a recipe, each with the values that a trial may have.

Rates, epochs, batch and rank are factors of the method's own defaults, so that they mean the same for all methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.abi.json_type import Json
from llmos.abi.method import MethodSpec, method_of

WIDTH = 4.0  # a learning rate may be so many times smaller or larger than its default
EPOCHS = (0.25, 0.5, 0.75, 1.0)  # of the default: what is better with more epochs is tried by a person
BATCHES = (0.5, 1.0, 2.0)
RANKS = (0.25, 0.5, 1.0, 2.0, 4.0)
SCALED = ("rank", "first_rank", "alpha")  # settings of methods that go with the rank
POOLINGS = ("mean", "cls", "max")


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting: a choice of `values`, or a factor from 1/`width` to `width`, evenly in its logarithm.

    `default` is the value of the first trial. `only` are the methods that have it; empty: all.
    """

    name: str
    values: tuple[Json, ...] = ()
    width: float = 0.0
    default: Json = None
    only: tuple[str, ...] = ()

    def at(self, place: float) -> Json:
        """The value at a place from 0 to 1."""
        if self.values:
            return self.values[min(int(place * len(self.values)), len(self.values) - 1)]
        return round(self.width ** (2 * place - 1), 4)

    def place_of(self, value: Json) -> float:
        """The place of a value, for a plot: the middle of a choice's part."""
        if self.values:
            return (self.values.index(value) + 0.5) / len(self.values)
        return (math.log(float(value)) / math.log(self.width) + 1) / 2


@dataclass(frozen=True, slots=True)
class Space:
    """The dimensions of a search. `method` is the first, for the others depend on it."""

    dimensions: tuple[Dimension, ...]

    def settings(self, places: Sequence[float]) -> dict[str, Json]:
        """The settings at a point of the unit cube; those that the method does not have are left out."""
        found: dict[str, Json] = {}
        for one, place in zip(self.dimensions, places, strict=True):
            if self.has(one, found):
                found[one.name] = one.at(place)
        return found

    def defaults(self) -> dict[str, Json]:
        """The settings of the first trial: what a training run without a search has."""
        found: dict[str, Json] = {}
        for one in self.dimensions:
            if self.has(one, found):
                found[one.name] = one.default
        return found

    def has(self, dimension: Dimension, settings: Mapping[str, Json]) -> bool:
        """Whether a trial with this method has the setting."""
        return not dimension.only or settings.get("method", dimension.only[0]) in dimension.only


@dataclass(frozen=True, slots=True)
class SpaceFacts:
    """What the space depends on. `fixed` are the recipe's settings that the user has given, which no trial changes."""

    methods: tuple[str, ...]
    default_method: str
    has_head: bool
    pooling: str  # the default; empty for a task without one
    augment: str  # the augmenters that the user asked for; empty: none are tried
    fixed: frozenset[str]


def space_of(facts: SpaceFacts) -> Space:
    """The space of a task and its methods, without what the user has fixed."""
    specs = {name: method_of(name) for name in facts.methods}
    ranked = tuple(name for name, spec in specs.items() if "rank" in {one.name for one in spec.settings})
    layered = tuple(name for name, spec in specs.items() if spec.trains_layers)
    first = facts.default_method if facts.default_method in specs else facts.methods[0]
    found = [
        Dimension("method", facts.methods, default=first),
        Dimension("rate", width=WIDTH, default=1.0),
        Dimension("epochs", EPOCHS, default=1.0),
        Dimension("batch", BATCHES, default=1.0),
    ]
    if ranked:
        found.append(Dimension("rank", RANKS, default=1.0, only=ranked))
    if facts.has_head and layered:
        found.append(Dimension("head_rate", width=WIDTH, default=1.0, only=layered))
    if facts.pooling:
        values = POOLINGS if facts.pooling in POOLINGS else (facts.pooling, *POOLINGS)
        found.append(Dimension("pooling", values, default=facts.pooling))
    if facts.augment:
        found.append(Dimension("augment", ("", facts.augment), default=""))
    return Space(tuple(one for one in found if not FIXES.get(one.name, set()) & facts.fixed))


FIXES: dict[str, set[str]] = {  # the recipe's settings that leave a dimension out when they are given
    "rate": {"learning_rate"},
    "epochs": {"epochs"},
    "batch": {"batch_size"},
    "rank": {"rank"},
    "head_rate": {"head_rate_ratio"},
    "pooling": {"pooling"},
}

Resolve = Callable[[str], tuple[float, float, float, int]]


def recipe_changes(settings: Mapping[str, Json], defaults: Resolve) -> dict[str, Any]:  # Any: fields of a recipe
    """The recipe's fields of these settings.

    `defaults` gives a method's epochs, learning rate, head rate ratio and batch size.
    """
    method = str(settings["method"])
    epochs, rate, ratio, batch = defaults(method)
    spec = method_of(method)
    found: dict[str, Any] = {
        "method": method,
        "epochs": float(f"{epochs * settings.get('epochs', 1.0):.4g}"),
        "learning_rate": float(f"{rate * settings.get('rate', 1.0):.4g}"),
        "head_rate_ratio": float(f"{ratio * settings.get('head_rate', 1.0):.4g}"),
        "batch_size": max(1, round(batch * settings.get("batch", 1.0))),
    }
    if "rank" in settings:
        found |= {"method_settings": _rank(spec, float(settings["rank"]))}
    if "pooling" in settings:
        found |= {"options": {"pooling": settings["pooling"]}}
    if "augment" in settings:
        found |= {"augment": settings["augment"] or None}
    return found


def _rank(spec: MethodSpec, factor: float) -> dict[str, Json]:
    """The method's rank times the factor; its other ranks and its scale keep their proportion to it."""
    known = {one.name: one for one in spec.settings if one.name in SCALED and one.default is not None}
    return {name: int(max(1, min(one.most, round(one.default * factor)))) for name, one in known.items()}
