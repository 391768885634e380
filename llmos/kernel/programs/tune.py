"""tune: searches the settings of a training run in a budget of time or trials. Its trials are processes of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, get_type_hints

from llmos.abi.device import LeaseKind
from llmos.abi.endpoint import is_address
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.model import Manifest
from llmos.abi.process import Program, Spec
from llmos.abi.recipe import Recipe, recipe_of
from llmos.abi.task import is_generative
from llmos.abi.tuning import TUNE_ARGUMENTS, check_tuning
from llmos.kernel.processes.footprint import CHILD_BYTES, FootprintFacts
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.programs.train import Train
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store


class Tune(Train):
    """Its arguments are a recipe, whose settings all trials have, and those of the search."""

    name = Program("tune")
    main = "llmos.programs.tune"
    arguments: ClassVar[Arguments | None] = {
        **get_type_hints(Recipe),
        "budget": Text,
        "sampler": Text,
        "methods": list[Text],
    }
    starts = frozenset({Program("trial")})
    traits = Traits(is_resumable=True, uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = super().check(spec, model, facts)
        recipe = self.recipe(spec)
        if recipe.data.unlabelled and not recipe.teacher:
            raise BadInput(
                "Trials of a search label no rows themselves. Leave unlabelled out, and train what the search finds "
                "with it",
                key="data.unlabelled",
                value=recipe.data.unlabelled,
            )
        if recipe.teacher and (is_address(recipe.teacher) or is_generative(recipe.task)):
            raise BadInput(
                "Trials of a search ask no teacher for texts, and none behind an address. Leave teacher out, and "
                "train what the search finds with it",
                key="teacher",
                value=recipe.teacher,
            )
        for key in ("contrastive", "learn_validation"):
            if getattr(recipe, key):
                raise BadInput(
                    f"Trials of a search are fine-tuned, and compared on validation rows. Leave {key} out",
                    key=key,
                    value=True,
                )
        return replace(spec, args={**spec.args, **check_tuning(spec.args)})

    def recipe(self, spec: Spec) -> Recipe:
        return recipe_of({key: value for key, value in spec.args.items() if key not in TUNE_ARGUMENTS})

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        return {LeaseKind.WORKSPACE: CHILD_BYTES}

    def title(self, spec: Spec) -> str:
        args = spec.args
        return f"tune {args.get('task')} {args.get('name')} on {args.get('base')}, {args.get('budget')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        return with_reports(job, config)


PROGRAM = Tune()
