"""label-data: puts people's answers to a dataset's rows into a version."""

from __future__ import annotations

from typing import ClassVar

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.labelling import SPLITS
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.process import Program, Spec
from llmos.kernel.programs.arguments import Text, check_source
from llmos.kernel.programs.datasets import DatasetProgram, pin_dataset, with_new_name
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, PathRules


class LabelData(DatasetProgram):
    """Answers come as a file of JSON lines, or as upload:ID: they are in no argument, journal or log."""

    name = Program("label-data")
    main = "llmos.programs.label_data"
    operation = "label"
    arguments: ClassVar[Arguments] = {"data": Text, "answers": Text, "name": Text, "split": Text}

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        spec = pin_dataset(spec, facts.store)
        answers = spec.args.get("answers")
        if not answers:
            raise BadInput("label-data needs answers: the absolute path of a file, or upload:ID", key="answers")
        check_source(str(answers), facts.store)
        if (split := spec.args.get("split")) is not None and split not in SPLITS:
            raise BadInput(
                f"split is {split!r}; it must be one of {', '.join(SPLITS)}",
                key="split",
                value=split,
                expected=list(SPLITS),
            )
        return with_new_name(spec, split_dataset_ref(spec.args["data"])[0])

    def follow_paths(self, args: dict[str, Json], rules: PathRules) -> dict[str, Json]:
        answers = args.get("answers")
        return {**args, "answers": rules.follow(answers)} if isinstance(answers, str) else args

    def title(self, spec: Spec) -> str:
        return f"label {spec.args.get('data')}"


PROGRAM = LabelData()
