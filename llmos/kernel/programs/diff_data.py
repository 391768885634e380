"""diff-data: compares two datasets by the ids of their rows. Its result is kept with the evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llmos.abi.frame import Job
from llmos.abi.model import Manifest
from llmos.abi.process import Program, Spec
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_datasets, with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config


class DiffData(DatasetProgram):
    """It makes nothing new."""

    name = Program("diff-data")
    main = "llmos.programs.diff_data"
    operation = "diff"
    arguments: ClassVar[Arguments] = {"data": Text, "other": Text}

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        return pin_dataset(pin_dataset(spec, facts.store), facts.store, "other")

    def title(self, spec: Spec) -> str:
        return f"diff {spec.args.get('data')} and {spec.args.get('other')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        return with_reports(with_datasets(job, store, [job.args["other"]]), config)


PROGRAM = DiffData()
