"""What an objective on preferences declares about itself, and the registry: a file for each in `abi/objectives`.

An objective is what training minimizes in place of the task's own loss. Other packages ask its declaration for what
they need and compare no names. Its loss is in `training/objectives`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from llmos.abi.error import BadSetting
from llmos.abi.json_type import Json
from llmos.abi.method import MethodSetting, Values, check_values
from llmos.abi.task import OBJECTIVE, spec_of
from llmos.abi.task import PREFERENCES as PREFERENCES

PACKAGE = "llmos.abi.objectives"
PAIRED, UNPAIRED = "paired", "unpaired"  # rows with a better and a worse answer; with one answer, good or bad
DETECT, PLAIN = "auto", "off"  # of the option `preferences`: whatever the rows are; the better answer alone
FORMS = (PAIRED, UNPAIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSpec:
    """The declaration of an objective. `rows` are the forms of preference rows that it learns from."""

    name: str
    about: str  # one sentence, for documents and help
    rows: tuple[str, ...]
    settings: tuple[MethodSetting, ...]
    needs_reference: bool  # log-probabilities of the frozen base
    needs_mismatched: bool = False  # prompts with the answer to another one
    primary_metric: str  # decides the best epoch and promotion
    rate: float = 0.03  # its default learning rate, in times of supervised fine-tuning's
    source: str  # the paper

    def values(self, given: Values) -> dict[str, Json]:
        """Every setting, as given or by default; BadSetting for one that it does not have, or a wrong value."""
        return check_values(self.name, self.settings, given, {one.name: one.settings for one in _specs().values()})


@cache
def objective_names() -> tuple[str, ...]:
    """The names of all objectives, which are those of the files of the package."""
    return tuple(one.name for one in iter_modules(import_module(PACKAGE).__path__))


def objective_named(name: str) -> ObjectiveSpec:
    """The declaration of this objective; BadSetting that lists all if there is none."""
    known = objective_names()
    if name not in known:
        raise BadSetting(
            f"objective is {name!r}; it must be one of {', '.join(known)}, or left out",
            key="objective",
            value=name,
            expected=list(known),
        )
    spec: ObjectiveSpec = import_module(f"{PACKAGE}.{name}").OBJECTIVE
    return spec


def objective_in(options: Mapping[str, Json]) -> ObjectiveSpec | None:
    """The objective that these options of a recipe or a model name; None: the task's own."""
    name = options.get(OBJECTIVE.name)
    return None if name is None else objective_named(str(name))


def objective_settings() -> frozenset[str]:
    """The names of all settings of all objectives."""
    return frozenset(one.name for spec in _specs().values() for one in spec.settings)


def needs_reference(options: Mapping[str, Json]) -> bool:
    """Whether these options name an objective that compares with the frozen base."""
    spec = objective_in(options)
    return spec is not None and spec.needs_reference


def primary_metric_of(task: str, options: Mapping[str, Json]) -> str:
    """The metric that decides for a model of this task with these options."""
    spec = objective_in(options)
    return spec_of(task).primary_metric if spec is None else spec.primary_metric


def takes_preferences(task: str) -> bool:
    """Whether models of this task can learn from preference rows."""
    return OBJECTIVE.name in spec_of(task).options


def _specs() -> Mapping[str, ObjectiveSpec]:
    return {name: objective_named(name) for name in objective_names()}
