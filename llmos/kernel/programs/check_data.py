"""check-data: what may be wrong with a dataset's rows. Its report is kept in the home's `checks`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.device import LeaseKind
from llmos.abi.error import BadInput, NotFound
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import Priority, Program, Spec
from llmos.abi.recipe import STARTERS
from llmos.kernel.processes.footprint import CHILD_BYTES, FootprintFacts
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_datasets, with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.programs.traits import Traits
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config

CHECKS = (
    "leaks",
    "contradictions",
    "labels",
    "duplicates",
    "placeholders",
    "length",
    "unknown-text",
    "control-tokens",
    "personal-data",
    "languages",
    "balance",
)
EMBEDDING_BYTES = 1 << 30  # of a base's weights and of the vectors of the rows


class CheckData(DatasetProgram):
    """The base is asked for vectors and token counts. Without one, labels and lengths are not checked."""

    name = Program("check-data")
    main = "llmos.programs.check_data"
    operation = "check"
    arguments: ClassVar[Arguments] = {"data": Text, "base": Text, "without": list[str]}
    default_priority = Priority.BACKGROUND
    traits = Traits(uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        for name in spec.args.get("without") or ():
            if name not in CHECKS:
                said = f"There is no check {name!r}. There are: {', '.join(CHECKS)}"
                raise BadInput(said, key="without", value=name, expected=list(CHECKS))
        base = base_of(spec, facts.store)
        args = {key: value for key, value in spec.args.items() if key != "base"}
        return replace(spec, args=args if base is None else {**args, "base": base})

    def is_light(self, spec: Spec) -> bool:
        return not spec.args.get("base")

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        if self.is_light(spec):
            return super().footprint(spec, model, facts)
        return {LeaseKind.WORKSPACE: CHILD_BYTES + EMBEDDING_BYTES}

    def title(self, spec: Spec) -> str:
        return f"check {spec.args.get('data')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        ref = str(job.args["data"])
        job = with_reports(with_datasets(job, store, [ref]), config)
        more: dict[str, Json] = {"report": str(config.home / "checks" / ref)}
        base = job.args.get("base")
        models = {} if base is None else {"base": store.located(str(base), job.dtype)}
        return replace(job, args=job.args | more, models=job.models | models)


def base_of(spec: Spec, store: Store) -> str | None:
    """The base named, or the one that trains by default if it is here."""
    said = spec.args.get("base")
    if said:
        found = store.resolve(str(said))
    else:
        try:
            found = store.resolve(STARTERS[False])
        except NotFound:
            return None
    if found.kind is not Kind.BASE:
        raise BadInput(
            f"{found.ref} is a fine-tuned model. Name the base it stands on instead: {found.base}",
            key="base",
            model=found.ref,
            base=found.base,
        )
    return store.in_dtype(found.ref, "") if found.dtype else found.ref


PROGRAM = CheckData()
