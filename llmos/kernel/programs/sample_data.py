"""sample-data: makes a version of some of a dataset's rows."""

from __future__ import annotations

from typing import ClassVar

from llmos.abi.error import BadInput
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.process import Program, Spec
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.datasets import DatasetProgram, check_share, pin_dataset, with_new_name
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments


class SampleData(DatasetProgram):
    """Of every split and label as large a part as of all, or as many of every label."""

    name = Program("sample-data")
    main = "llmos.programs.sample_data"
    operation = "sample"
    arguments: ClassVar[Arguments] = {
        "data": Text,
        "name": Text,
        "n": int,
        "share": float,
        "balance": bool,
        "seed": int,
        "split": Text,
    }

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        count, share, seed = (spec.args.get(key) for key in ("n", "share", "seed"))
        if (count is None) == (share is None):
            raise BadInput("A sample is of a number of rows or of a share of them. Give one: n, or share", key="n")
        check_share(spec.args, "share")
        if seed is not None and not 0 <= seed < 2**32:
            raise BadInput(f"seed is {seed}; it must be from 0 to {2**32 - 1}", key="seed", value=seed)
        dataset = facts.store.dataset(spec.args["data"])
        split = spec.args.get("split")
        if split is not None and split not in dataset.splits:
            said = f"{dataset.ref} has no {split} split. It has: {', '.join(dataset.splits)}"
            raise BadInput(said, split=split, expected=list(dataset.splits))
        there = sum(dataset.splits.values()) if split is None else dataset.splits[split]
        if count is not None and not 0 < count <= there:
            raise BadInput(f"n is {count:,}; {dataset.ref} has {there:,} rows to choose from", key="n", value=count)
        return with_new_name(spec, f"{split_dataset_ref(dataset.ref)[0]}-sample")

    def title(self, spec: Spec) -> str:
        return f"sample {spec.args.get('data')}"


PROGRAM = SampleData()
