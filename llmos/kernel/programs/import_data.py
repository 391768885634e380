"""import-data: makes a version of a dataset of one file, or of one for each split."""

from __future__ import annotations

from typing import Any, ClassVar

from llmos.abi.error import BadInput, BadSetting
from llmos.abi.model import Manifest, check_name
from llmos.abi.process import Program, Spec
from llmos.abi.recipe import ON_BAD_ROW, Data
from llmos.abi.task import trainable_tasks
from llmos.abi.wire import from_plain
from llmos.kernel.programs.arguments import Rows, Text, check_source, is_dataset, row_sources
from llmos.kernel.programs.datasets import DatasetProgram
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments


class ImportData(DatasetProgram):
    """It reads in constant memory; killed at any point, it leaves a whole version or none."""

    name = Program("import-data")
    main = "llmos.programs.import_data"
    arguments: ClassVar[Arguments] = {
        **dict.fromkeys(("name", "task", "license", "source", "group", "time"), Text),
        "data": Rows,
        "options": dict[str, Any],
    }

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        check_name(str(spec.args.get("name") or ""))
        task = spec.args.get("task")
        if task is not None and task not in trainable_tasks():
            raise BadInput(
                f"No rows can be read for {task!r}. There are: {', '.join(trainable_tasks())}",
                key="task",
                value=task,
                expected=list(trainable_tasks()),
            )
        sources = list(row_sources(spec.args))
        if not sources:
            raise BadInput(
                'import-data needs data: an absolute path, upload:ID, or {"train": path, "test": path ...}', key="data"
            )
        for source in sources:
            if is_dataset(source):
                raise BadInput(f"{source} is a dataset already. Join several: llmos data merge", key="data")
            check_source(source, facts.store)
        if isinstance(data := spec.args["data"], dict):
            skips = from_plain(data, Data).on_bad_row
            if skips not in ON_BAD_ROW:
                said = f"on_bad_row is {skips!r}; it must be one of {', '.join(ON_BAD_ROW)}"
                raise BadSetting(said, key="on_bad_row", value=skips, expected=list(ON_BAD_ROW))
        return spec

    def title(self, spec: Spec) -> str:
        return f"import {spec.args.get('name')}"


PROGRAM = ImportData()
