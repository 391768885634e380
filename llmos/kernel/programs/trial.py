"""trial: trials of a tuning: training runs that pause with their checkpoints at each rung. Their tuner starts them."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llmos.abi.device import LeaseKind
from llmos.abi.model import Manifest
from llmos.abi.process import Program, Spec
from llmos.abi.recipe import Recipe, batch_size_of, recipe_of
from llmos.abi.tuning import TRIAL_ARGUMENTS, active_of, recipes_of
from llmos.kernel.processes.footprint import FootprintFacts, training_footprint
from llmos.kernel.programs.declaration import Arguments
from llmos.kernel.programs.train import Train


class Trial(Train):
    """Its arguments are a recipe, its number, the shares of the rungs, and the rung that it is to reach.

    With a `pack` it trains several trials together, those whose numbers are `active`.
    """

    name = Program("trial")
    main = "llmos.programs.trial"
    arguments: ClassVar[Arguments | None] = None
    traits = replace(Train.traits, exclusive_work="trains")

    def recipe(self, spec: Spec) -> Recipe:
        return recipe_of({key: value for key, value in spec.args.items() if key not in TRIAL_ARGUMENTS})

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        """Of several trials: an optimizer for each, and the activations of a pass of all."""
        assert model is not None
        recipes = recipes_of(spec.args).values()
        together = replace(self.recipe(spec), batch_size=sum(map(batch_size_of, recipes)))
        needs = training_footprint(together, spec.device, model, facts)
        each = [training_footprint(one, spec.device, model, facts)[LeaseKind.OPTIMIZER] for one in recipes]
        return needs | {LeaseKind.OPTIMIZER: sum(each)}

    def title(self, spec: Spec) -> str:
        args = spec.args
        numbers = active_of(args)
        trials = f"trials {', '.join(map(str, numbers))}" if len(numbers) > 1 else f"trial {numbers[0]}"
        return f"{trials} of {args.get('task')} {args.get('name')}"


PROGRAM = Trial()
