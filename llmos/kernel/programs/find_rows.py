"""find-rows: finds a row by its text or its id in all datasets. The text is not kept: its ids are made at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.model import Manifest
from llmos.abi.process import Program, Spec
from llmos.abi.row_id import ID_SIGNS
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, with_datasets, with_reports
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments
from llmos.kernel.store.store import Store

if TYPE_CHECKING:
    from llmos.config import Config


class FindRows(DatasetProgram):
    """It looks through every version of every dataset."""

    name = Program("find-rows")
    main = "llmos.programs.find_rows"
    arguments: ClassVar[Arguments] = {"ids": list[Text]}

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        ids = spec.args.get("ids") or []
        if not ids:
            raise BadInput("find-rows needs ids: those of rows, 16 hexadecimal signs each", key="ids")
        for id in ids:
            if len(id) != ID_SIGNS or not set(id) <= set("0123456789abcdef"):
                raise BadInput(f"{id[:40]!r} is no id of a row: it has 16 signs, 0 to 9 and a to f", key="ids")
        return replace(spec, args={"ids": sorted(set(ids))})

    def title(self, spec: Spec) -> str:
        return "find rows"

    def job(self, job: Job, store: Store, config: Config) -> Job:
        return with_reports(with_datasets(job, store, [one.ref for one in store.datasets()]), config)


PROGRAM = FindRows()
