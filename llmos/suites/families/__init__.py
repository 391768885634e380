"""What differs in testing the families of tasks: a file for each family, found by a task's declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import Family, spec_of
from llmos.data.yaml_source import Node, YamlSource
from llmos.suites.drafted import Draft
from llmos.suites.families import labels, spans, tags, text
from llmos.suites.form import Edits, Form


class SuiteFamily(Protocol):
    """What a family's file has; expectations and answers are of the family's own types, which Any stands for here."""

    noisy_field: str
    """Where noise that changes letters goes, in an input of several fields."""

    uses_marks: bool
    """Its templates mark spans: `[Olga](PERSON)`."""

    has_scores: bool
    """Its answers give every label a score, which can rise or fall."""

    repeats_itself: bool
    """Equal questions have equal answers, so that a changed text can be asked to have the same."""

    has_drafts: bool
    """Its rows say what a test can expect."""

    def read_expectation(self, node: Node, source: YamlSource) -> Any:
        """What a test expects, from the value of its key `expect`."""
        ...

    def labels_in(self, expectation: Any) -> Sequence[str]:
        """The labels that an expectation names."""
        ...

    def fill(self, expectation: Any, form: Form, filled: Callable[[str], str]) -> Any:
        """The expectation of one input, with its slots filled and its marked spans."""
        ...

    def read_answer(self, output: Json) -> Any:
        """An answer from the task's output, as HTTP has it."""
        ...

    def show(self, answer: Any) -> str:
        """An answer as a person reads it."""
        ...

    def show_expected(self, expectation: Any) -> str:
        """An expectation as a person reads it."""
        ...

    def score(self, answer: Any) -> float | None:
        """How sure the model is of this answer; None where it does not say."""
        ...

    def is_met(self, expectation: Any, answer: Any) -> bool:
        """Whether the answer is as expected."""
        ...

    def is_same(self, before: Any, after: Any, edits: Edits) -> bool:
        """Whether both answers say the same, after these edits of the first one's input."""
        ...

    def move_expectation(self, expectation: Any, edits: Edits) -> Any:
        """What is expected of the input after these edits."""
        ...

    def form_of(self, row: Any) -> tuple[Form, Any]:
        """The input of a labelled row, and what is expected of its answer."""
        ...

    def draft(self, rows: Sequence[Any], labels: Sequence[str]) -> Draft:
        """Tests that these rows suggest, the most frequent of which stand first."""
        ...


FAMILIES: Mapping[Family, SuiteFamily] = {
    Family.LABELS: labels,
    Family.TAGS: tags,
    Family.SPANS: spans,
    Family.TEXT: text,
}


def suite_family(task: str) -> SuiteFamily:
    """How this task's answers are tested; BadInput if nothing of its kind can be."""
    family = FAMILIES.get(spec_of(task).family)
    if family is None:
        raise BadInput(
            f"Behaviour suites test answers that are labels, spans or text; {task} gives none. "
            f"They are for tasks of the families {', '.join(FAMILIES)}"
        )
    return family
