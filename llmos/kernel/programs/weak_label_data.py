"""weak-label-data: rules vote on a dataset's unlabelled rows, and a label model makes labels of their votes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.device import LeaseKind
from llmos.abi.endpoint import endpoint_in, is_address
from llmos.abi.engine import engine_of
from llmos.abi.error import BadInput
from llmos.abi.form import form_dtype
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.process import Priority, Process, Program, Spec, State
from llmos.abi.recipe import UNLABELLED
from llmos.abi.task import Family, spec_of
from llmos.abi.weak_labels import COMBINES, ENDPOINTS, answers_name
from llmos.kernel.children.cleanup import ASKED
from llmos.kernel.processes.footprint import CHILD_BYTES, FootprintFacts, serving_footprint
from llmos.kernel.programs.arguments import Text, check_source
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_datasets, with_new_name, with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, PathRules
from llmos.kernel.programs.traits import Traits
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config

VECTOR_BYTES = 256 * 1024 * 1024  # of the passes of a block of rows


class WeakLabelData(DatasetProgram):
    """The rules are a file of YAML or JSON, or upload:ID, which the child reads. `models` are those that they ask."""

    name = Program("weak-label-data")
    main = "llmos.programs.weak_label_data"
    operation = "weak-label"
    arguments: ClassVar[Arguments] = {
        **dict.fromkeys(("data", "rules", "combine", "name"), Text),
        "models": list[Text],
        "least": float,
    }
    default_priority = Priority.BACKGROUND
    traits = Traits(uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        dataset = facts.store.dataset(spec.args["data"])
        rules, combine = spec.args.get("rules"), spec.args.get("combine") or COMBINES[0]
        if not rules:
            raise BadInput("weak-label-data needs rules: the absolute path of a file, or upload:ID", key="rules")
        check_source(str(rules), facts.store)
        if combine not in COMBINES:
            raise BadInput(
                f"combine is {combine!r}; it must be one of {', '.join(COMBINES)}",
                key="combine",
                value=combine,
                expected=list(COMBINES),
            )
        if not 0 <= (least := float(spec.args.get("least") or 0.0)) <= 1:
            raise BadInput(f"least is {least:g}; it must be from 0 to 1", key="least", value=least)
        if spec_of(dataset.task).family is not Family.LABELS or dataset.options.get("multi_label"):
            raise BadInput(
                f"{dataset.ref} has rows for {dataset.task}, and rules give a text one label. Take a dataset for "
                "classify without multi_label",
                dataset=dataset.ref,
                task=dataset.task,
            )
        if not dataset.splits.get(UNLABELLED):
            raise BadInput(
                f"{dataset.ref} has no row without a label. Bring some: llmos data import --unlabelled FILE, and join "
                "them: llmos data merge",
                dataset=dataset.ref,
                split=UNLABELLED,
            )
        refs = {str(one): facts.store.resolve(str(one)) for one in spec.args.get("models") or ()}
        weights = sum(serving_footprint(one)[LeaseKind.WEIGHTS] for one in refs.values())
        writers = {name: one for name, one in refs.items() if spec_of(one.task).is_generative}
        engines = {name: engine_of(one, None, facts.engine) for name, one in writers.items()}
        more: dict[str, Json] = {"combine": combine, "refs": {name: one.ref for name, one in refs.items()}}
        more |= {"engines": engines} if engines else {}
        spec = replace(spec, args={**spec.args, **more, "weights_bytes": weights})
        return with_new_name(spec, split_dataset_ref(dataset.ref)[0])

    def is_light(self, spec: Spec) -> bool:
        return not spec.args.get("models")

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        if self.is_light(spec):
            return super().footprint(spec, model, facts)
        weights = int(spec.args.get("weights_bytes") or 0)
        needs = {LeaseKind.WORKSPACE: CHILD_BYTES + VECTOR_BYTES, LeaseKind.WEIGHTS: weights}
        return needs | ({LeaseKind.KV: facts.kv_bytes * len(spec.args["engines"])} if spec.args.get("engines") else {})

    def follow_paths(self, args: dict[str, Json], rules: PathRules) -> dict[str, Json]:
        source = args.get("rules")
        return {**args, "rules": rules.follow(source)} if isinstance(source, str) else args

    def title(self, spec: Spec) -> str:
        return f"weak-label {spec.args.get('data')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        job = with_reports(with_datasets(job, store, [str(job.args["data"])]), config)
        refs: dict[str, str] = job.args.get("refs") or {}
        models = {
            name: store.located(ref, form_dtype(store.resolve(ref).dtype, job.dtype)) for name, ref in refs.items()
        }
        settings: dict[str, Json] = {"token_budget": config.token_budget, "kv_bytes": config.kv_bytes}
        asked: dict[str, Json] = {"endpoint_hosts": list(config.endpoint_hosts), "asked": str(config.home / ASKED)}
        asked |= {"api_key": config.endpoint_key} if config.endpoint_key else {}
        args = job.args | settings | asked | {"vllm_command": config.vllm_command}
        return replace(job, models=job.models | models, args=args)


def answers_referred(store: Store, processes: Iterable[Process]) -> frozenset[str] | None:
    """The names of the files of answers that datasets and models were made of; None: any may be.

    So it is while a process may ask, and where a dataset was made before such names were noted.
    """
    if any(_may_ask(one.spec) and one.state is not State.EXITED for one in processes):
        return None
    operations = [one.provenance.get("operation") for one in store.datasets()]
    by_rules = [one for one in operations if isinstance(one, dict)]
    if any(one.get("operation") == WeakLabelData.operation and ENDPOINTS not in one for one in by_rules):
        return None
    named = {str(name) for one in by_rules for name in one.get(ENDPOINTS) or ()}
    return frozenset(named | {name for one in store.manifests() if (name := _teacher_answers(one)) is not None})


def _teacher_answers(manifest: Manifest) -> str | None:
    """The name of the answers that a model learned from; None if no endpoint taught it."""
    recipe = manifest.lineage.get("recipe")
    endpoint = endpoint_in(str(recipe.get("teacher") or "")) if isinstance(recipe, dict) else None
    return None if endpoint is None else answers_name(endpoint.url, endpoint.model)


def _may_ask(spec: Spec) -> bool:
    """Whether it asks endpoints: by rules, or as a training whose teacher is one."""
    return spec.program == WeakLabelData.name or is_address(str(spec.args.get("teacher") or ""))


PROGRAM = WeakLabelData()
