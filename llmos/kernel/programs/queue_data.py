"""queue-data: which unlabelled rows are worth a label most, with what a cheap model would say of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.device import LeaseKind
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.labelling import STRATEGIES, labels_to_learn
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.process import Priority, Process, Program, Spec
from llmos.abi.recipe import UNLABELLED
from llmos.kernel.processes.footprint import CHILD_BYTES, FootprintFacts
from llmos.kernel.programs.arguments import Text, training_dataset
from llmos.kernel.programs.check_data import EMBEDDING_BYTES, base_of
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_datasets, with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.programs.disagreements import check_disagreements, with_disagreements
from llmos.kernel.programs.retraining import check_apart, interrupted_training, newest_version, trainings_of
from llmos.kernel.programs.superseded import superseded_candidates
from llmos.kernel.programs.traits import Traits
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config

COUNT, MOST = 20, 1_000
VECTORS = "vectors"  # of the home: a folder for each dataset name


class QueueData(DatasetProgram):
    """The base gives vectors; the rows that have labels train a head on them in seconds.

    The newest version of `model`, where there is one for the dataset's task, says what it believes of the rows. With
    `second`, the name of a person, the rows are those that others have answered, and no model is asked. The texts on
    which versions of `disagreements`, by default of `model`, disagreed in rollouts are rows too.
    """

    name = Program("queue-data")
    main = "llmos.programs.queue_data"
    operation = "queue"
    arguments: ClassVar[Arguments] = {
        "data": Text,
        "base": Text,
        "model": Text,
        "n": int,
        "strategy": Text,
        "seed": int,
        "without": list[Text],
        "second": Text,
        "disagreements": Text,
    }
    default_priority = Priority.BATCH  # somebody waits for it: it goes before a training
    traits = Traits(uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        dataset = facts.store.dataset(spec.args["data"])
        second = spec.args.get("second")
        if second and not labels_to_learn(dataset.splits):
            raise BadInput(
                f"{dataset.ref} has no row that anybody has answered. A second opinion is of answers: llmos label "
                f"{dataset.name}",
                key="second",
                value=second,
            )
        asks_others = check_disagreements(spec, dataset, facts.store)
        if not (second or asks_others or dataset.splits.get(UNLABELLED)):
            raise BadInput(
                f"{dataset.ref} has no row without a label. Bring some: llmos data import --unlabelled FILE, and join "
                "them: llmos data merge",
                dataset=dataset.ref,
                split=UNLABELLED,
            )
        asked = spec.args.get("n")
        count, strategy = COUNT if asked is None else int(asked), str(spec.args.get("strategy") or STRATEGIES[0])
        if not 0 < count <= MOST:
            raise BadInput(f"n is {count:,}; it may be from 1 to {MOST:,}", key="n", value=count)
        if strategy not in STRATEGIES:
            raise BadInput(
                f"There is no strategy {strategy!r}. There are: {', '.join(STRATEGIES)}",
                key="strategy",
                value=strategy,
                expected=list(STRATEGIES),
            )
        if name := spec.args.get("model"):
            check_apart(str(name), dataset)
        if second:
            return replace(spec, args={**spec.args, "n": count, "strategy": strategy})
        base = base_of(spec, facts.store)
        if base is None:
            raise BadInput(
                "No base is here, which gives the rows' vectors. Bring one in: llmos pull minilm", key="base"
            )
        return replace(spec, args={**spec.args, "base": base, "n": count, "strategy": strategy})

    def is_light(self, spec: Spec) -> bool:
        return False

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        passes = 2 if spec.args.get("model") else 1
        return {LeaseKind.WORKSPACE: CHILD_BYTES + passes * EMBEDDING_BYTES}

    def follow_up(self, ended: Process, store: Store, processes: Sequence[Process]) -> Spec | int | None:
        name = ended.spec.args.get("model")
        if not name:
            return None
        dataset = store.dataset(str(ended.spec.args["data"]))
        return interrupted_training(trainings_of(str(name), dataset.name, processes))

    def models_to_remove(self, ended: Process, store: Store, processes: Sequence[Process]) -> list[str]:
        name = ended.spec.args.get("model")
        return superseded_candidates(str(name), store, processes) if name else []

    def title(self, spec: Spec) -> str:
        return f"queue {spec.args.get('data')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        job = with_reports(with_datasets(job, store, [str(job.args["data"])]), config)
        if job.args.get("second"):
            return job
        job = with_disagreements(job, config)
        name = split_dataset_ref(str(job.args["data"]))[0]
        job = replace(job, args=job.args | {"vectors": str(config.home / VECTORS / name)})
        models = {"base": store.located(str(job.args["base"]), job.dtype)}
        task = store.dataset(str(job.args["data"])).task
        newest = newest_version(store, str(job.args.get("model") or ""), task)
        if newest is None:
            return replace(job, models=job.models | models)
        models["candidate"] = store.located(newest.ref, job.dtype)
        return replace(job, models=job.models | models, datasets=job.datasets | training_dataset(newest, store))


PROGRAM = QueueData()
