"""serve: one base on one device, and the models attached to it, until it is idle for long or evicted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.device import Device, LeaseKind
from llmos.abi.engine import DEFAULT, device_for, engine_of
from llmos.abi.form import form_dtype
from llmos.abi.frame import Job
from llmos.abi.model import Manifest
from llmos.abi.process import Priority, Program, Spec
from llmos.abi.task import is_generative
from llmos.kernel.processes.footprint import FootprintFacts, serving_footprint
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, Declaration
from llmos.kernel.programs.dtypes import check_dtype
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store


class Serve(Declaration):
    """The kernel starts it for the first call of a base."""

    name = Program("serve")
    main = "llmos.programs.serve"
    arguments: ClassVar[Arguments] = {"base": Text, "engine": Text}
    model_argument = "base"
    needs_base = True
    traits = Traits(answers_calls=True, is_restarted=True, is_replaced_when_hung=True, is_ready_when_it_says=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        assert model is not None
        asked = spec.args.get("engine")
        engine = engine_of(model, None if asked is None else str(asked), facts.engine)
        check_dtype(spec, model.dtype, model.ref)
        return replace(spec, args={**spec.args, "engine": engine})

    def check_device(self, spec: Spec, device: Device) -> None:
        device_for(str(spec.args["engine"]), [device])

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        assert model is not None
        needs = serving_footprint(model, facts)
        if any(map(is_generative, model.options.get("tasks", ()))):
            needs[LeaseKind.KV] = facts.kv_bytes
        return needs

    def title(self, spec: Spec) -> str:
        engine = spec.args.get("engine", DEFAULT)
        return f"serve {spec.args.get('base')}" + (f" with {engine}" if engine != DEFAULT else "")

    def dtype(self, spec: Spec, model: Manifest | None, floats: str) -> str:
        assert model is not None
        return form_dtype(model.dtype, floats)

    def job(self, job: Job, store: Store, config: Config) -> Job:
        settings = {"token_budget": config.token_budget, "kv_bytes": config.kv_bytes}
        return replace(job, args=job.args | settings | {"vllm_command": config.vllm_command})


def serve_spec(base: str, engine: str, device: str) -> Spec:
    """The serve process of this base, started for a call."""
    return Spec(Serve.name, {"base": base, "engine": engine}, priority=Priority.INTERACTIVE, device=device)


PROGRAM = Serve()
