"""What queue-data and label-data share: the model whose rollouts' disagreements are rows to label, and their file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmos.abi.disagreement_file import FILE
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.model import DatasetManifest
from llmos.abi.process import Spec
from llmos.abi.task import Family, spec_of

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store

FILE_ARGUMENT = "disagreements_file"  # the daemon's own


def check_disagreements(spec: Spec, dataset: DatasetManifest, store: Store) -> bool:
    """Whether the arguments name a model whose disagreements are rows; BadInput unless the dataset can take them."""
    name = spec.args.get("disagreements")
    if not name:
        return False
    store.found(str(name))
    if spec_of(dataset.task).family is not Family.LABELS:
        raise BadInput(
            f"{dataset.ref} is for {dataset.task}; disagreements are of tasks with labels of whole texts (classify)",
            key="disagreements",
            value=name,
        )
    return True


def with_disagreements(job: Job, config: Config) -> Job:
    """The job with the file, where it is there and `disagreements`, or else `model`, names whose rows are meant."""
    path = config.home / FILE
    if not (job.args.get("disagreements") or job.args.get("model")) or not path.exists():
        return job
    return replace(job, args={**job.args, FILE_ARGUMENT: str(path)})
