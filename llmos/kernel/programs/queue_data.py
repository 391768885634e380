"""queue-data: which unlabelled rows are worth a label most, with what a cheap model would say of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.device import LeaseKind
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.labelling import STRATEGIES
from llmos.abi.model import Manifest
from llmos.abi.process import Priority, Program, Spec
from llmos.abi.recipe import UNLABELLED
from llmos.kernel.processes.footprint import CHILD_BYTES, FootprintFacts
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.check_data import EMBEDDING_BYTES, base_of
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_datasets, with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.programs.traits import Traits
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config

COUNT, MOST = 20, 1_000


class QueueData(DatasetProgram):
    """The base gives vectors; the rows that have labels train a head on them in seconds."""

    name = Program("queue-data")
    main = "llmos.programs.queue_data"
    operation = "queue"
    arguments: ClassVar[Arguments] = {
        "data": Text,
        "base": Text,
        "n": int,
        "strategy": Text,
        "seed": int,
        "without": list[Text],
    }
    default_priority = Priority.BACKGROUND
    traits = Traits(uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        dataset = facts.store.dataset(spec.args["data"])
        if not dataset.splits.get(UNLABELLED):
            raise BadInput(
                f"{dataset.ref} has no row without a label. Bring some: llmos data import --unlabelled FILE, and join "
                "them: llmos data merge",
                dataset=dataset.ref,
                split=UNLABELLED,
            )
        count, strategy = int(spec.args.get("n") or COUNT), str(spec.args.get("strategy") or STRATEGIES[0])
        if not 0 < count <= MOST:
            raise BadInput(f"n is {count:,}; it may be from 1 to {MOST:,}", key="n", value=count)
        if strategy not in STRATEGIES:
            raise BadInput(
                f"There is no strategy {strategy!r}. There are: {', '.join(STRATEGIES)}",
                key="strategy",
                value=strategy,
                expected=list(STRATEGIES),
            )
        base = base_of(spec, facts.store)
        if base is None:
            raise BadInput(
                "No base is here, which gives the rows' vectors. Bring one in: llmos pull minilm", key="base"
            )
        return replace(spec, args={**spec.args, "base": base, "n": count, "strategy": strategy})

    def is_light(self, spec: Spec) -> bool:
        return False

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        return {LeaseKind.WORKSPACE: CHILD_BYTES + EMBEDDING_BYTES}

    def title(self, spec: Spec) -> str:
        return f"queue {spec.args.get('data')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        job = with_reports(with_datasets(job, store, [str(job.args["data"])]), config)
        return replace(job, models=job.models | {"base": store.located(str(job.args["base"]), job.dtype)})


PROGRAM = QueueData()
