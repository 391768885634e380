"""What a training on preferences needs beside any other: rows of its form, mismatched answers, the base's opinion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.objective import DETECT, PLAIN, UNPAIRED, objective_in, takes_preferences
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe
from llmos.abi.task import PREFERENCES
from llmos.data.dataset import LoadedData
from llmos.data.families.preferences import example_of, form_of
from llmos.programs.channel import Channel, Stopped
from llmos.training.candidate import Candidate
from llmos.training.examples import Example
from llmos.training.mismatched import with_mismatched
from llmos.training.reference import FILE, References, with_reference

FORM = PREFERENCES.name
Examples = Sequence[Example[Any]]  # Any: targets of preferences, or of the task's family


def reading_options(recipe: Recipe) -> dict[str, Json]:
    """The options that rows are read with: without an objective, preference rows are read as their better answers."""
    if not takes_preferences(recipe.task):
        return dict(recipe.options)
    form = PLAIN if objective_in(recipe.options) is None else recipe.options.get(FORM, DETECT)
    return {**recipe.options, FORM: form}


def with_form(recipe: Recipe, data: LoadedData) -> Recipe:
    """The recipe with the options that its data decided; BadInput where rows are not of the objective's form."""
    own = {key: value for key, value in recipe.options.items() if key != FORM}
    spec = objective_in(recipe.options)
    forms = {form_of(row) for rows in data.splits.by_name().values() for row in rows}
    if spec is None and UNPAIRED in forms:
        raise BadInput(
            "These rows have good and bad answers. Learn from both with the objective kto, or give rows of good ones",
            key="objective",
            expected="kto",
        )
    if spec is not None and (len(forms) > 1 or not forms <= set(spec.rows)):
        found = " and ".join(sorted("no preferences" if form == PLAIN else f"{form} preferences" for form in forms))
        examples = ", or ".join(map(example_of, spec.rows))
        raise BadInput(
            f"{spec.name} learns from rows like {examples}; these have {found}",
            key="objective",
            value=spec.name,
            expected=list(spec.rows),
        )
    return replace(recipe, options={**data.options, **own})


def with_objective(
    channel: Channel, recipe: Recipe, candidate: Candidate, train: Examples, validation: Examples, folder: Path, of: str
) -> tuple[list[Example[Any]], list[Example[Any]]]:
    """The examples as the objective takes them; `of` says of which run's base and data the reference in `folder` is.

    Stopped if the daemon asks for that meanwhile; what was computed is kept.
    """
    spec = objective_in(recipe.options)
    if spec is None:
        return list(train), list(validation)
    if spec.needs_mismatched:
        train = with_mismatched(train, candidate.loaded.max_tokens)
    if not spec.needs_reference:
        return list(train), list(validation)
    references = References(folder / FILE, of)
    references.read()
    count = len(train) + len(validation)

    def on_done(done: int) -> None:
        channel.report(Progress("reference", done, count, "rows"))
        if channel.stop_asked:
            raise Stopped

    known = with_reference(candidate, [*train, *validation], references, on_done=on_done)
    return known[: len(train)], known[len(train) :]
