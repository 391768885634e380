"""evaluate: measures any model of the store on labelled rows, by the engine and in the dtype that it is served in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.capability import tasks_of
from llmos.abi.device import Device, LeaseKind
from llmos.abi.engine import DEFAULT, device_for, engine_of
from llmos.abi.error import WrongTask
from llmos.abi.form import form_dtype
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest
from llmos.abi.process import Priority, Program, Spec
from llmos.abi.task import is_generative
from llmos.kernel.processes.footprint import FootprintFacts, serving_footprint
from llmos.kernel.programs.arguments import Rows, Text, check_rows, training_dataset
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, Declaration
from llmos.kernel.programs.dtypes import check_dtype
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store


class Evaluate(Declaration):
    """Its report is kept in the home's `evaluations`."""

    name = Program("evaluate")
    main = "llmos.programs.evaluate"
    arguments: ClassVar[Arguments] = {
        "model": Text,
        "data": Rows,
        "task": Text,
        "options": dict[str, Json],
        "dtype": Text,
        "engine": Text,
    }
    model_argument = "model"
    needs_row_key = True
    default_priority = Priority.BACKGROUND
    traits = Traits(uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        assert model is not None
        asked = spec.args.get("engine")
        engine = engine_of(model, None if asked is None else str(asked))
        _check_task(spec, model, engine, facts.store)
        check_rows(spec.args, facts.store)
        check_dtype(spec, model.dtype, model.ref)
        return spec if engine == DEFAULT else replace(spec, args={**spec.args, "engine": engine})

    def check_device(self, spec: Spec, device: Device) -> None:
        device_for(str(spec.args.get("engine", DEFAULT)), [device])

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        assert model is not None
        needs = serving_footprint(model, facts)
        if "engine" in spec.args and any(map(is_generative, model.options.get("tasks", ()))):
            needs[LeaseKind.KV] = facts.kv_bytes
        return needs

    def title(self, spec: Spec) -> str:
        return f"evaluate {spec.args.get('model')}"

    def dtype(self, spec: Spec, model: Manifest | None, floats: str) -> str:
        assert model is not None
        return form_dtype(str(spec.args.get("dtype") or model.dtype), floats)

    def job(self, job: Job, store: Store, config: Config) -> Job:
        reports = {"reports": str(config.home / "evaluations" / str(job.pid))}
        settings = {"token_budget": config.token_budget, "kv_bytes": config.kv_bytes}
        learned = training_dataset(job.models["model"].manifest, store)
        args = job.args | reports | settings | {"vllm_command": config.vllm_command}
        return replace(job, args=args, datasets=job.datasets | learned)


def _check_task(spec: Spec, model: Manifest, engine: str, store: Store) -> None:
    """Raise WrongTask for a generative task that the model's other engine does not do; the child refuses others, for it
    knows what can be measured."""
    task = str(spec.args.get("task") or model.task)
    if engine == DEFAULT or not is_generative(task):
        return
    able = tasks_of(model, engine, store.resolve(model.base) if model.base else None)
    if task not in able:
        raise WrongTask(
            f"{model.ref} does {', '.join(able)} with the engine {engine}, not {task}. Name one of these, or "
            f"bring it in for {DEFAULT}",
            model=model.ref,
            task=task,
            has=list(able),
        )


PROGRAM = Evaluate()
