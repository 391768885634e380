"""merge-data: joins datasets of one task into a version."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.process import Program, Spec
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, pin_datasets, with_datasets, with_new_name
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config

PREFER = ("first", "last")


class MergeData(DatasetProgram):
    """A row that several have is in the new one once, where it comes first."""

    name = Program("merge-data")
    main = "llmos.programs.merge_data"
    operation = "merge"
    arguments: ClassVar[Arguments] = {"data": Text, "others": list[Text], "name": Text, "prefer": Text}

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_datasets(pin_dataset(spec, facts.store), facts.store, 1, "others")
        if (prefer := spec.args.get("prefer")) is not None and prefer not in PREFER:
            said = f"prefer is {prefer!r}; it must be one of {', '.join(PREFER)}"
            raise BadInput(said, key="prefer", value=prefer, expected=list(PREFER))
        return with_new_name(spec, split_dataset_ref(spec.args["data"])[0])

    def title(self, spec: Spec) -> str:
        return f"merge {spec.args.get('data')} and {', '.join(spec.args.get('others', ()))}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        return with_datasets(job, store, job.args["others"])


PROGRAM = MergeData()
