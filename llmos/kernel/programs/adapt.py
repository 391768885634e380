"""adapt: trains a base on texts without labels into another base, with its gain and its cost as evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.adaptation import CAUSAL, MASKED, OBJECTIVES, Adaptation, adaptation_of, recipe_of_adaptation
from llmos.abi.device import LeaseKind
from llmos.abi.engine import DEFAULT, check_engine
from llmos.abi.error import BadInput, BadSetting
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest, check_name
from llmos.abi.process import Priority, Program, Spec
from llmos.abi.task import is_generative
from llmos.kernel.processes.footprint import FootprintFacts, training_footprint, weights_bytes
from llmos.kernel.programs.arguments import Rows, Text, check_rows, check_source, is_dataset, promoted
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, Declaration, PathRules
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store

SUFFIX = "-adapted"


class Adapt(Declaration):
    """It trains all weights of the base, and measures it before and after."""

    name = Program("adapt")
    main = "llmos.programs.adapt"
    arguments: ClassVar[Arguments] = {
        "base": Text,
        "data": Rows,
        "name": Text,
        "objective": Text,
        "epochs": float,
        "learning_rate": float,
        "batch_size": int,
        "max_tokens": int,
        "mask_share": float,
        "matryoshka": Text | list[int],
        "pairs": bool,
        "keep_head": bool,
        "general": Text,
        "texts": int,
        "seed": int,
        "dtype": Text,
        "checkpoint_every_s": float,
    }
    model_argument = "base"
    needs_base = True
    needs_shape = True
    default_priority = Priority.BACKGROUND
    traits = Traits(is_resumable=True, uses_models=True, exclusive_work="trains")

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        assert model is not None
        check_engine(DEFAULT, model)
        if model.dtype:
            raise BadInput(
                f"{model.ref} is served in {model.dtype}; a base learns in its version in float (llmos ls)",
                key="base",
                model=model.ref,
            )
        writes = is_generative(model.task)
        objective = spec.args.get("objective") or (CAUSAL if writes else MASKED).name
        wanted = adaptation_of({**spec.args, "objective": objective})
        if wanted.spec.is_generative != writes:
            able = [one.name for one in OBJECTIVES.values() if one.is_generative == writes]
            does = "writes" if writes else "gives vectors and does not write"
            raise BadSetting(
                f"objective is {objective!r}, and {model.ref} {does}. It learns by {' or '.join(able)}",
                key="objective",
                value=objective,
                expected=able,
            )
        name = wanted.name or f"{model.name}{SUFFIX}"
        check_name(name)
        if any(one.name == name and one.kind is not Kind.BASE for one in facts.store.manifests()):
            raise BadInput(f"{name!r} is the name of a model. Give the base another name", key="name", value=name)
        check_rows(spec.args, facts.store)
        if wanted.general:
            check_source(wanted.general, facts.store)
        return replace(spec, args={**spec.args, "name": name, "objective": objective})

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        assert model is not None
        needs = training_footprint(recipe_of_adaptation(self.adaptation(spec), 1), spec.device, model, facts)
        return needs | {LeaseKind.WORKSPACE: needs[LeaseKind.WORKSPACE] + weights_bytes(model)}

    def adaptation(self, spec: Spec) -> Adaptation:
        """The adaptation in its arguments."""
        return adaptation_of(spec.args)

    def title(self, spec: Spec) -> str:
        return f"adapt {spec.args.get('base')} to {spec.args.get('name')}"

    def follow_paths(self, args: dict[str, Json], rules: PathRules) -> dict[str, Json]:
        args = super().follow_paths(args, rules)
        general = args.get("general")
        return {**args, "general": rules.follow(general)} if isinstance(general, str) else args

    def job(self, job: Job, store: Store, config: Config) -> Job:
        general = job.args.get("general")
        more = {general: str(store.dataset_folder(general))} if general and is_dataset(str(general)) else {}
        return replace(job, models=job.models | promoted(str(job.args["name"]), store), datasets=job.datasets | more)


PROGRAM = Adapt()
