"""train: fine-tunes a base by a recipe into a candidate with its evidence. One at a time on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, get_type_hints

from llmos.abi.auto_method import BEFORE_AUTO
from llmos.abi.device import LeaseKind
from llmos.abi.endpoint import is_address
from llmos.abi.engine import DEFAULT, check_engine
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.method import is_on_base
from llmos.abi.model import Kind, Manifest, check_name
from llmos.abi.process import Priority, Process, Program, Spec
from llmos.abi.recipe import Recipe, check, recipe_of
from llmos.abi.task import is_generative, spec_of
from llmos.abi.tracking import check_installed
from llmos.kernel.children.cleanup import ASKED
from llmos.kernel.processes.footprint import FootprintFacts, training_footprint, weights_bytes
from llmos.kernel.programs.arguments import check_source, in_int8, promoted, training_dataset
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, Declaration, PathRules
from llmos.kernel.programs.superseded import superseded_candidates
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store


TRACKS = "tracks"  # of the home


class Train(Declaration):
    """Its arguments are a recipe."""

    name = Program("train")
    main = "llmos.programs.train"
    arguments: ClassVar[Arguments | None] = get_type_hints(Recipe)
    model_argument = "base"
    needs_base = True
    needs_shape = True
    needs_row_key = True
    settles = frozenset({"method", "method_why"})
    default_priority = Priority.BACKGROUND
    traits = Traits(is_resumable=True, uses_models=True, exclusive_work="trains")

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        assert model is not None
        check_engine(DEFAULT, model)
        recipe = self.recipe(spec)
        _check_recipe(recipe, facts)
        if recipe.teacher and not is_address(recipe.teacher):
            spec = replace(spec, args={**spec.args, "teacher": _check_teacher(recipe, facts.store).ref})
        return _on_floats(replace(spec, args={**spec.args, "method": recipe.method}), model, facts.store)

    def beside_bytes(self, spec: Spec, store: Store) -> int:
        ref = spec.args.get("teacher")
        if not ref or is_address(str(ref)):
            return 0
        teacher = store.resolve(str(ref))
        base = [store.resolve(teacher.base)] if teacher.base is not None and is_on_base(teacher.method) else []
        return sum(weights_bytes(one) for one in (teacher, *base))

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        assert model is not None
        return training_footprint(self.recipe(spec), spec.device, model, facts)

    def follow_paths(self, args: dict[str, Json], rules: PathRules) -> dict[str, Json]:
        args = super().follow_paths(args, rules)
        name, colon, folder = str(args.get("track") or "").partition(":")
        return {**args, "track": f"{name}:{rules.follow(folder)}"} if colon else args

    def recipe(self, spec: Spec) -> Recipe:
        """The recipe in its arguments."""
        return recipe_of(spec.args)

    def title(self, spec: Spec) -> str:
        args = spec.args
        return f"train {args.get('task')} {args.get('name')} on {args.get('base')}"

    def models_to_remove(self, ended: Process, store: Store, processes: Sequence[Process]) -> list[str]:
        args = ended.spec.args
        return superseded_candidates(str(args["name"]), store, processes) if args.get("labelling") else []

    def job(self, job: Job, store: Store, config: Config) -> Job:
        before = promoted(job.args["name"], store, job.dtype)
        ref = job.args.get("teacher")
        asked: dict[str, Json] = {}
        if ref and is_address(str(ref)):
            asked = {"endpoint_hosts": list(config.endpoint_hosts), "asked": str(config.home / ASKED)}
            asked |= {"api_key": config.endpoint_key} if config.endpoint_key else {}
        elif ref:
            before |= {"teacher": store.located(str(ref), job.dtype)}
        datasets = {
            ref: folder for one in before.values() for ref, folder in training_dataset(one.manifest, store).items()
        }
        quantized = in_int8(job.models["base"].manifest, store, job.dtype)
        tracks = str(config.home / TRACKS)
        args = {"method": BEFORE_AUTO, **job.args, **asked}  # of a journal without it, written before there was a rule
        models = job.models | before | quantized
        return replace(job, args=args, models=models, datasets=job.datasets | datasets, tracks=tracks)


def _check_recipe(recipe: Recipe, facts: AdmissionFacts) -> None:
    spec_of(recipe.task)  # BadInput for a task that there is not
    check(recipe)
    if recipe.track is not None:
        check_installed(recipe.track)  # here, and not after hours in the queue
    check_name(recipe.name)
    if any(m.name == recipe.name and m.kind is Kind.BASE for m in facts.store.manifests()):
        raise BadInput(
            f"{recipe.name!r} is the name of a base model. Give the new model another name",
            key="name",
            value=recipe.name,
        )
    for source in (recipe.data.train, recipe.data.validation, recipe.data.test, recipe.data.unlabelled):
        if source is not None:
            check_source(source, facts.store)


def _check_teacher(recipe: Recipe, store: Store) -> Manifest:
    """The teacher's version; BadInput if it cannot teach this recipe's task."""
    teacher = store.resolve(str(recipe.teacher))
    why = ""
    writes = is_generative(recipe.task)
    if teacher.kind is Kind.BASE and writes:
        why = "" if is_generative(teacher.task) else "is a base that does not write"
    elif teacher.kind is Kind.BASE:
        why = "is a base, which has no labels to teach"
    elif teacher.task != recipe.task:
        why = f"does {teacher.task}, not {recipe.task}"
    elif bool(teacher.options.get("multi_label")) != bool(recipe.options.get("multi_label")):
        why = "gives one label to a text where the other gives many"
    if why:
        raise BadInput(
            f"{teacher.ref} {why}. Name a model for {recipe.task} as the teacher: llmos ls",
            key="teacher",
            value=teacher.ref,
        )
    check_engine(DEFAULT, teacher)
    return teacher


def _on_floats(spec: Spec, base: Manifest, store: Store) -> Spec:
    """The spec with a base that is served in int8 replaced by the same base in float, and the result served in int8."""
    if not base.dtype:
        return spec
    floats = store.in_dtype(base.ref, "")
    if floats is None:
        raise BadInput(
            f"{base.ref} is served in {base.dtype}, and its version in float is gone. Bring it in again",
            key="base",
            value=base.ref,
        )
    return replace(spec, args={**spec.args, "base": floats, "serve_dtype": spec.args.get("serve_dtype") or base.dtype})


PROGRAM = Train()
