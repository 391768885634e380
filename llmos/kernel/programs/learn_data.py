"""learn-data: puts the feedback on a model beside the rows that it was first trained on, as a version of a dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.feedback_file import FILE
from llmos.abi.frame import Job
from llmos.abi.learning import dataset_name
from llmos.abi.model import Manifest
from llmos.abi.process import Priority, Program, Spec
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_new_name
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.programs.traits import Traits

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store


class LearnData(DatasetProgram):
    """`data` are the first rows, `model` is the name that the feedback is on, `upto` its last row; `accuracy` is how
    often the model may be right, by which senders of its own answers are told (llmos/abi/echo.py)."""

    name = Program("learn-data")
    main = "llmos.programs.learn_data"
    default_priority = Priority.BACKGROUND
    traits = Traits(is_resumable=True, exclusive_work="puts feedback beside rows")
    arguments: ClassVar[Arguments | None] = None

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        return with_new_name(spec, dataset_name(str(spec.args.get("model") or "feedback")))

    def title(self, spec: Spec) -> str:
        return f"feedback on {spec.args.get('model')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        return replace(job, args={**job.args, "feedback": str(config.home / FILE)})


PROGRAM = LearnData()
