"""quantize: makes an int8 version of a float one, with what that costs as its evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.device import LeaseKind
from llmos.abi.engine import DEFAULT, check_engine
from llmos.abi.frame import Job
from llmos.abi.key import KeyScope
from llmos.abi.model import Manifest
from llmos.abi.process import Priority, Program, Spec
from llmos.kernel.processes.footprint import FootprintFacts, serving_footprint
from llmos.kernel.programs.arguments import Rows, Text, check_rows, in_int8, promoted, training_dataset
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, Declaration
from llmos.kernel.programs.dtypes import check_dtype
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store


class Quantize(Declaration):
    """It computes in float, and measures the version that it makes."""

    name = Program("quantize")
    scope = KeyScope.MODELS
    main = "llmos.programs.quantize"
    arguments: ClassVar[Arguments] = {"model": Text, "data": Rows, "max_drop": float}
    model_argument = "model"
    needs_row_key = True
    default_priority = Priority.BACKGROUND
    traits = Traits(uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        assert model is not None
        check_engine(DEFAULT, model)
        check_rows(spec.args, facts.store)
        check_dtype(spec, "", model.ref)
        return spec

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        assert model is not None
        return serving_footprint(model, facts)

    def title(self, spec: Spec) -> str:
        return f"quantize {spec.args.get('model')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        manifest = job.models["model"].manifest
        related = in_int8(manifest, store, job.dtype) | promoted(manifest.name, store)
        datasets = training_dataset(manifest, store)
        return replace(job, models=job.models | related, datasets=job.datasets | datasets)


PROGRAM = Quantize()
