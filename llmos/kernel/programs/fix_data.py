"""fix-data: makes a version of a dataset without the rows, or with the labels, that a check has found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.process import Program, Spec
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_new_name, with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config

CHOICES = ("drop", "relabel", "keep")


class FixData(DatasetProgram):
    """It reads the report of the version's last check."""

    name = Program("fix-data")
    main = "llmos.programs.fix_data"
    operation = "fix"
    arguments: ClassVar[Arguments] = {
        "data": Text,
        "name": Text,
        **dict.fromkeys(("drop", "relabel", "keep", "only"), list[str]),
        "least_score": float,
        "with_test": bool,
        "with_doubt": bool,
        "dry_run": bool,
    }

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        if not any(spec.args.get(key) for key in CHOICES):
            raise BadInput(
                f"fix needs something to do: one of {', '.join(CHOICES)}", key="drop", expected=list(CHOICES)
            )
        return with_new_name(spec, split_dataset_ref(str(spec.args["data"]))[0])

    def title(self, spec: Spec) -> str:
        return f"fix {spec.args.get('data')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        job = with_reports(job, config)
        return replace(job, args=job.args | {"report": str(config.home / "checks" / str(job.args["data"]))})


PROGRAM = FixData()
