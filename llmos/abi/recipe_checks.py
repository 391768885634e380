"""Checks of a recipe's settings for a teacher, for few labels and for rows without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmos.abi.auto_method import AUTO
from llmos.abi.distillation import LEAST_TEMPERATURE, MOST_TEMPERATURE, TEACHER_TEMPERATURE, TEACHER_WEIGHT
from llmos.abi.endpoint import EXAMPLE as ADDRESS
from llmos.abi.endpoint import endpoint_in, is_address
from llmos.abi.error import BadSetting
from llmos.abi.method import method_of
from llmos.abi.objective import objective_in
from llmos.abi.task import Family, spec_of, trainable_tasks

if TYPE_CHECKING:
    from llmos.abi.recipe import Recipe

MOST_CONSISTENCY = 100.0
MOST_VIEWS = 16.0
MOST_ROUNDS = 5
SELF_TRAINED = (Family.LABELS, Family.TAGS)  # families of tasks that learn from rows without labels


def bad(key: str, value: object, expected: str) -> BadSetting:
    """The error for a setting's value, with what it must be."""
    return BadSetting(f"{key} is {value!r}; it must be {expected}", key=key, value=value, expected=expected)


def check_learning(recipe: Recipe) -> None:
    """Raise BadSetting for the first of these settings that does not go with the others."""
    _check_distillation(recipe)
    _check_contrastive(recipe)
    _check_consistency(recipe)
    _check_views(recipe)


def _check_distillation(recipe: Recipe) -> None:
    """Check that there is a teacher where its settings or rows without labels are given, and a task it can teach."""
    usual = {"teacher_weight": TEACHER_WEIGHT, "teacher_temperature": TEACHER_TEMPERATURE}
    changed = [key for key, default in usual.items() if getattr(recipe, key) != default]
    if recipe.teacher is None:
        _check_self_training(recipe)
        if changed:
            raise bad(changed[0], getattr(recipe, changed[0]), "left out where no teacher is named")
        return
    if not 0 <= recipe.teacher_weight <= 1:
        raise bad("teacher_weight", recipe.teacher_weight, "from 0 to 1")
    if not LEAST_TEMPERATURE <= recipe.teacher_temperature <= MOST_TEMPERATURE:
        raise bad(
            "teacher_temperature", recipe.teacher_temperature, f"from {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}"
        )
    _check_taught(recipe, recipe.teacher, changed)
    neutrals: tuple[tuple[str, object], ...] = (
        ("class_weights", "none"),
        ("label_smoothing", 0.0),
        ("augment", None),
        ("balance", False),
    )
    for key, neutral in neutrals:
        if getattr(recipe, key) != neutral:
            raise bad(key, getattr(recipe, key), f"{neutral} where a teacher answers the rows")


def _check_taught(recipe: Recipe, teacher: str, changed: list[str]) -> None:
    """Check that the task's rows can be answered by a teacher, and by one behind an address if it is such."""
    spec = spec_of(recipe.task)
    if not spec.has_labels and not spec.is_generative:
        raise bad("teacher", teacher, f"left out: it teaches labels and texts, and {recipe.task} has neither")
    if spec.is_generative:
        if changed:
            raise bad(changed[0], getattr(recipe, changed[0]), f"left out: a teacher of {recipe.task} writes texts")
        if objective_in(recipe.options) is not None:
            raise bad("objective", objective_in(recipe.options), "left out where a teacher writes the answers")
    if not is_address(teacher):
        return
    if endpoint_in(teacher) is None:
        raise bad("teacher", teacher, f"an address with the name of its model behind a #, such as {ADDRESS}")
    if not spec.is_generative and (spec.family is not Family.LABELS or recipe.options.get("multi_label")):
        raise bad("teacher", teacher, f"a model of the store for {recipe.task}: an address gives a text one label")


def _check_self_training(recipe: Recipe) -> None:
    """Check that the task can learn from rows without labels, if no teacher answers them."""
    rounds = recipe.self_training_rounds
    if isinstance(rounds, bool) or not 1 <= rounds <= MOST_ROUNDS:
        raise bad("self_training_rounds", rounds, f"from 1 to {MOST_ROUNDS}")
    if not recipe.data.unlabelled:
        return
    if spec_of(recipe.task).family not in SELF_TRAINED:
        able = [name for name in trainable_tasks() if spec_of(name).family in SELF_TRAINED]
        raise bad("data.unlabelled", recipe.data.unlabelled, f"left out for {recipe.task}: {', '.join(able)} take it")
    if recipe.options.get("multi_label"):
        raise bad(
            "data.unlabelled",
            recipe.data.unlabelled,
            "left out where a text may have many labels and no teacher is named",
        )


def _check_consistency(recipe: Recipe) -> None:
    """Check that texts have one label each, learned by layers that dropout changes."""
    if not 0 <= recipe.consistency <= MOST_CONSISTENCY:
        raise bad("consistency", recipe.consistency, f"from 0 to {MOST_CONSISTENCY:g}")
    if not recipe.consistency:
        return
    is_label = spec_of(recipe.task).family is Family.LABELS and not recipe.options.get("multi_label")
    trains_layers = recipe.method == AUTO or method_of(recipe.method).trains_layers
    if not is_label or recipe.teacher or recipe.contrastive or not trains_layers:
        raise bad(
            "consistency",
            recipe.consistency,
            "0 unless a text has one label, for methods that train a head alone, by pairs, and with a teacher",
        )


def _check_contrastive(recipe: Recipe) -> None:
    """Check that texts learned by pairs have one label each, and layers to train."""
    if not recipe.contrastive:
        return
    spec = spec_of(recipe.task)
    if spec.family is not Family.LABELS or spec.head != "sequence" or recipe.options.get("multi_label"):
        raise bad("contrastive", True, f"false for {recipe.task}, unless each text has one label")
    if recipe.teacher or recipe.augment:
        raise bad("contrastive", True, "false with a teacher or changed copies of rows")
    if recipe.method != AUTO and not method_of(recipe.method).trains_layers:
        raise bad("method", recipe.method, "one that trains layers, such as full or lora, to learn by pairs")


def _check_views(recipe: Recipe) -> None:
    """Check that there are rows without labels that nobody else answers, and layers to train."""
    if not 0 <= recipe.views <= MOST_VIEWS:
        raise bad("views", recipe.views, f"from 0 to {MOST_VIEWS:g}")
    if not recipe.views:
        return
    trains_layers = recipe.method == AUTO or method_of(recipe.method).trains_layers
    if not recipe.data.unlabelled or recipe.teacher or recipe.consistency or not trains_layers:
        raise bad(
            "views",
            recipe.views,
            "0 without unlabelled rows, with a teacher or consistency, and for methods that train a head alone",
        )
