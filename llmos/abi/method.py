"""What a training method declares about itself, and the registry of methods: a file for each in `abi/methods`.

Other packages ask a method's declaration for what they need (what it trains, how it is served, its settings) and
compare no method names, so that a method is added without a change to them. Its computation is in `nn/adapters`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from llmos.abi.error import BadSetting
from llmos.abi.json_type import Json

PACKAGE = "llmos.abi.methods"


class MethodFamily(StrEnum):
    """What a method changes of its base, which decides how its models are served."""

    FULL = "full"  # every weight: a model with weights of its own, served beside its base
    HEAD = "head"  # nothing: the task's head alone
    LOW_RANK = "low-rank"  # adds the product of two small matrices to a layer's output
    CONVERTED = "converted"  # another form of change that is computed as a low-rank product of the same numbers
    PER_TOKEN = "per-token"  # any other function of a layer's output (or input) for each token
    VIRTUAL = "virtual"  # trained tokens in front of every sequence


@dataclass(frozen=True, slots=True)
class Widths:
    """The sizes of a transformer that a method's own weights follow from.

    `writing` are the layers of the decoder in an encoder-decoder, `attention` the width of all heads (0: `hidden`).
    """

    hidden: int
    inner: int
    layers: int
    writing: int = 0
    attention: int = 0


Values = Mapping[str, Json]
CountWeights = Callable[[Widths, Values], int]


def no_weights(shape: Widths, values: Values) -> int:
    """The weights of a method that adds none to a base."""
    return 0


@dataclass(frozen=True, slots=True)
class MethodSetting:
    """A setting of a method, in recipes as `method_settings`: its type, its default and its range.

    A number is over `over` and at most `most`. A setting of type tuple takes a list of texts, or one text with commas.
    """

    name: str
    kind: type
    default: Json
    help: str
    over: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, value: Json) -> Json:
        """The value in normal form; BadSetting if it is of another type or out of range."""
        if value is None and self.default is None:
            return None
        if self.kind is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            if isinstance(parts, list | tuple) and parts and all(isinstance(one, str) and one for one in parts):
                return tuple(parts)
            raise self._bad(value, "names, separated by commas")
        if self.kind is bool or isinstance(value, bool):
            if self.kind is bool and isinstance(value, bool):
                return value
            raise self._bad(value, "true or false" if self.kind is bool else f"a {self.kind.__name__}")
        if self.kind is str:
            if isinstance(value, str) and (not self.choices or value in self.choices):
                return value
            raise self._bad(value, f"one of {', '.join(self.choices)}" if self.choices else "a text")
        if not isinstance(value, int if self.kind is int else int | float) or not self.over < value <= self.most:
            raise self._bad(value, f"a number over {self.over:g} and at most {self.most:g}")
        return self.kind(value)

    def _bad(self, value: Json, expected: str) -> BadSetting:
        return BadSetting(
            f"{self.name} is {value!r}; it must be {expected}", key=self.name, value=value, expected=expected
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """The declaration of a method.

    `count_weights` gives the most weights that it trains beside a head, for the memory that admission reserves. What a
    stored model takes when served stands in its lineage, `resident_bytes`. `field` is the recipe's field that also
    holds its settings.
    """

    name: str
    about: str  # one sentence, for documents and help
    family: MethodFamily
    trains: str  # what is trained, in a few words
    settings: tuple[MethodSetting, ...] = ()
    count_weights: CountWeights = no_weights
    peft_type: str = ""  # the `peft_type` of its files: PEFT's, where PEFT has the method
    is_in_peft: bool = True  # else its files have the form of PEFT's and a type of our own
    reads_as: str = ""  # the module of nn/adapters/methods that trains and reads it; empty: none is needed
    rate: float = 1.0  # its default learning rate, in times of LoRA's
    field: str = ""
    is_grouped: bool = False  # whether several of its adapters can be trained in one row
    source: str = ""  # the paper

    @property
    def keeps_base(self) -> bool:
        """Whether its models stand on the base's shared weights; else each has weights of its own."""
        return self.family is not MethodFamily.FULL

    @property
    def trains_layers(self) -> bool:
        """Whether gradients reach the base's layers."""
        return self.family is not MethodFamily.HEAD

    @property
    def serving(self) -> str:
        """How its models are served, in a few words."""
        if self.family is MethodFamily.FULL:
            return "alone, with weights of its own"
        how = " (as a low-rank product)" if self.family is MethodFamily.CONVERTED else ""
        return f"mixed with others on its base{how}"

    def values(self, given: Values) -> dict[str, Json]:
        """Every setting, as given or by default; BadSetting for one that it does not have, or a wrong value."""
        return check_values(
            self.name, self.settings, given, {one.name: one.settings for one in method_specs().values()}
        )


Settings = tuple[MethodSetting, ...]


def check_values(name: str, settings: Settings, given: Values, all_settings: Mapping[str, Settings]) -> dict[str, Json]:
    """Every setting of what is called `name`, as given or by default; BadSetting for another one, or a wrong value.

    `all_settings` are those of all things of its kind, for the way out.
    """
    known = {one.name: one for one in settings}
    for key in given:
        if key not in known:
            raise _no_setting(name, list(known), key, given[key], all_settings)
    return {key: one.check(given.get(key, one.default)) for key, one in known.items()}


def _no_setting(name: str, names: list[str], key: str, value: Json, all_settings: Mapping[str, Settings]) -> BadSetting:
    others = [other for other, settings in all_settings.items() if key in {one.name for one in settings}]
    has = f"it has {', '.join(names)}" if names else "it has none"
    near = f" (near: {', '.join(get_close_matches(key, names))})" if get_close_matches(key, names) else ""
    said = f". Those that have it: {', '.join(others)}" if others else ""
    return BadSetting(
        f"{name} has no setting {key!r}{near}; {has}{said}", key=key, value=value, expected=names, method=name
    )


@cache
def method_names() -> tuple[str, ...]:
    """The names of all methods, which are those of the files of the package."""
    return tuple(one.name.replace("_", "-") for one in iter_modules(import_module(PACKAGE).__path__))


@cache
def method_specs() -> Mapping[str, MethodSpec]:
    """Every method by name: the `METHOD` of every file of the package."""
    return {name: method_of(name) for name in method_names()}


def method_of(name: str) -> MethodSpec:
    """The declaration of this method; BadSetting that lists all methods if there is none."""
    if name not in method_names():
        known = method_names()
        raise BadSetting(
            f"method is {name!r}; it must be one of {', '.join(known)}", key="method", value=name, expected=list(known)
        )
    spec: MethodSpec = import_module(f"{PACKAGE}.{name.replace('-', '_')}").METHOD
    return spec


def can_group(name: str, given: Values) -> bool:
    """Whether adapters of this method with these settings can be trained in one row with others.

    Dropout of an adapter's own input is PEFT's alone.
    """
    return method_of(name).is_grouped and not given.get("dropout")


def find_method(name: str | None) -> MethodSpec | None:
    """The declaration of this method; None for a base, or for a method that this version does not have."""
    return method_of(name) if name in method_names() else None


def is_on_base(name: str | None) -> bool:
    """Whether a model of this method stands on the weights of its base; False for a base."""
    spec = find_method(name)
    return spec is not None and spec.keeps_base


def has_adapter(name: str | None) -> bool:
    """Whether a model of this method brings files of an adapter."""
    spec = find_method(name)
    return spec is not None and bool(spec.reads_as)


def has_own_weights(name: str | None) -> bool:
    """Whether a model of this method has weights of its own, as large as its base's; False for a base."""
    spec = find_method(name)
    return spec is not None and not spec.keeps_base


def setting_names() -> frozenset[str]:
    """The names of all settings of all methods."""
    return frozenset(one.name for spec in method_specs().values() for one in spec.settings)


def linears(shape: Widths) -> Iterator[tuple[int, int, int]]:
    """The linear layers of a transformer at most, as (how many, larger side, smaller side).

    A layer has four of attention and three of the inner size; cross-attention adds four.
    """
    layers = shape.layers + shape.writing
    wide = shape.attention or shape.hidden
    yield 4 * (layers + shape.writing), max(shape.hidden, wide), min(shape.hidden, wide)
    yield 3 * layers, max(shape.hidden, shape.inner), min(shape.hidden, shape.inner)


def low_rank_weights(shape: Widths, rank: int) -> int:
    """The weights of a pair of matrices of this rank on every linear layer."""
    return rank * sum(count * (inputs + outputs) for count, inputs, outputs in linears(shape))
