"""trial: one trial of a tuning: a training run that pauses with its checkpoint at each rung. Its tuner starts it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llmos.abi.process import Program, Spec
from llmos.abi.recipe import Recipe, recipe_of
from llmos.abi.tuning import TRIAL_ARGUMENTS
from llmos.kernel.programs.declaration import Arguments
from llmos.kernel.programs.train import Train


class Trial(Train):
    """Its arguments are a recipe, its number, the shares of the rungs, and the rung that it is to reach."""

    name = Program("trial")
    main = "llmos.programs.trial"
    arguments: ClassVar[Arguments | None] = None
    traits = replace(Train.traits, exclusive_work="trains")

    def recipe(self, spec: Spec) -> Recipe:
        return recipe_of({key: value for key, value in spec.args.items() if key not in TRIAL_ARGUMENTS})

    def title(self, spec: Spec) -> str:
        return f"trial {spec.args.get('number')} of {spec.args.get('task')} {spec.args.get('name')}"


PROGRAM = Trial()
