"""label-data: puts people's answers to a dataset's rows into a version, on which a model is trained when it is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.labelling import SPLITS
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.process import Process, Program, Spec
from llmos.kernel.programs.arguments import Text, check_source
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_datasets, with_new_name
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, PathRules
from llmos.kernel.programs.disagreements import check_disagreements, with_disagreements
from llmos.kernel.programs.retraining import check_retraining, follow_up
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store


NEWEST = "is_newest"  # of the dataset's versions; the daemon's own argument


class LabelData(DatasetProgram):
    """Answers come as a file of JSON lines, or as upload:ID: they are in no argument, journal or log.

    `model` is trained on the new version when `retrain` labels more have come (0: never), by a recipe of `base` and
    `settings`. Answers may be to texts on which versions of `disagreements`, by default of `model`, disagreed in
    rollouts. One at a time, so that the answers of two people who ask of the same name are both kept.
    """

    name = Program("label-data")
    main = "llmos.programs.label_data"
    operation = "label"
    traits = Traits(exclusive_work="puts answers into a dataset")
    arguments: ClassVar[Arguments] = {
        "data": Text,
        "answers": Text,
        "name": Text,
        "split": Text,
        "model": Text,
        "retrain": int,
        "base": Text,
        "settings": dict[str, Json],
        "disagreements": Text,
    }

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        is_newest = "@" not in str(spec.args.get("data"))
        spec = pin_dataset(spec, facts.store)
        spec = replace(spec, args={**spec.args, NEWEST: is_newest})
        answers = spec.args.get("answers")
        if not answers:
            raise BadInput("label-data needs answers: the absolute path of a file, or upload:ID", key="answers")
        check_source(str(answers), facts.store, may_be_empty=True)
        if (split := spec.args.get("split")) is not None and split not in SPLITS:
            raise BadInput(
                f"split is {split!r}; it must be one of {', '.join(SPLITS)}",
                key="split",
                value=split,
                expected=list(SPLITS),
            )
        check_disagreements(spec, facts.store.dataset(spec.args["data"]), facts.store)
        check_retraining(spec, facts)
        return with_new_name(spec, split_dataset_ref(spec.args["data"])[0])

    def follow_paths(self, args: dict[str, Json], rules: PathRules) -> dict[str, Json]:
        answers = args.get("answers")
        return {**args, "answers": rules.follow(answers)} if isinstance(answers, str) else args

    def follow_up(self, ended: Process, store: Store, processes: Sequence[Process]) -> Spec | int | None:
        return follow_up(ended, store, processes)

    def job(self, job: Job, store: Store, config: Config) -> Job:
        """Of a dataset named without a version, the newest one now: another's answers may have made one meanwhile."""
        job = with_disagreements(job, config)
        args = dict(job.args)
        if not args.pop(NEWEST, False):
            return replace(job, args=args)
        ref = store.dataset(split_dataset_ref(str(args["data"]))[0]).ref
        return with_datasets(replace(job, args={**args, "data": ref}), store, [ref])

    def title(self, spec: Spec) -> str:
        return f"label {spec.args.get('data')}"


PROGRAM = LabelData()
