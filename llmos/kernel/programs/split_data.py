"""split-data: makes a version of a dataset whose rows are in other splits."""

from __future__ import annotations

from typing import ClassVar

from llmos.abi.error import BadInput
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.process import Program, Spec
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_new_name
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments


class SplitData(DatasetProgram):
    """Splits that are there stay as they are, unless `again` is said."""

    name = Program("split-data")
    main = "llmos.programs.split_data"
    operation = "split"
    arguments: ClassVar[Arguments] = {
        **dict.fromkeys(("data", "name", "group", "time"), Text),
        "validation": float,
        "test": float,
        "again": bool,
    }

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        if spec.args.get("group") and spec.args.get("time"):
            raise BadInput("A split is by a group or by a time, not by both. Leave one out", key="time")
        shares = {key: float(spec.args.get(key, 0.1)) for key in ("validation", "test")}
        for key, share in shares.items():
            if not 0 <= share < 1:
                raise BadInput(f"{key} is {share:g}; it must be from 0 (none) and under 1", key=key, value=share)
        if not 0 < sum(shares.values()) < 1:
            said = f"validation and test are {sum(shares.values()):g} together"
            raise BadInput(f"{said}; it must be over 0, and under 1 so that rows to train on are left", key="test")
        return with_new_name(spec, split_dataset_ref(spec.args["data"])[0])

    def title(self, spec: Spec) -> str:
        return f"split {spec.args.get('data')}"


PROGRAM = SplitData()
