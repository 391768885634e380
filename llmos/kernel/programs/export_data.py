"""export-data: writes a dataset's rows as a file of another format, which the client then fetches in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.model import Manifest
from llmos.abi.process import Program, Spec
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_datasets, with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.kernel.store.store import Store

ALL = "all"  # in place of a split: the rows of all of them


class ExportData(DatasetProgram):
    """Of a dataset with several splits, one must be named, or `all`: most formats cannot say the split of a row."""

    name = Program("export-data")
    main = "llmos.programs.export_data"
    operation = "export"
    arguments: ClassVar[Arguments] = {"data": Text, "format": Text, "split": Text, "scheme": Text}

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        dataset = facts.store.dataset(spec.args["data"])
        if not spec.args.get("format"):
            raise BadInput("An export needs a format, such as jsonl or csv", key="format")
        split = spec.args.get("split")
        if split is None and len(dataset.splits) > 1:
            raise BadInput(
                f"{dataset.ref} has the splits {', '.join(dataset.splits)}. Name the one to export "
                f"(--split {next(iter(dataset.splits))}), or {ALL} (--split {ALL})",
                key="split",
                expected=[*dataset.splits, ALL],
            )
        if split not in (None, ALL, *dataset.splits):
            raise BadInput(
                f"{dataset.ref} has no {split} split. It has: {', '.join(dataset.splits)}",
                key="split",
                split=split,
                expected=[*dataset.splits, ALL],
            )
        return spec

    def title(self, spec: Spec) -> str:
        return f"export {spec.args.get('data')} as {spec.args.get('format')}"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        return with_reports(with_datasets(job, store, [job.args["data"]]), config)


PROGRAM = ExportData()
