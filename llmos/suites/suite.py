"""The suite: its tests as they are written, before their templates are filled. `reading.py` reads one from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from llmos.abi.json_type import Json
from llmos.data.yaml_source import YamlSource
from llmos.suites.families import SuiteFamily, suite_family
from llmos.suites.templates import MARK

MOST_TEXTS = 50  # of a test, where it does not say
SEED = 7
SHARE = 0.15  # of the words that noise changes, where the test does not say


class TestKind(StrEnum):
    """The three kinds of CheckList (Ribeiro et al., ACL 2020)."""

    __test__ = False  # pytest takes classes of this name for tests

    MINIMUM = "minimum functionality"  # what anyone would expect of it
    INVARIANCE = "invariance"  # a change that must not change the answer
    DIRECTION = "direction"  # a change that must move a score one way


@dataclass(frozen=True, slots=True)
class TextChange:
    """One way to change a text: a noise, or texts added or replaced."""

    what: str  # as the suite names it
    line: int
    noise: str = ""
    share: float = SHARE
    before: str = ""
    after: str = ""
    swaps: tuple[tuple[str, str], ...] = ()
    lexicon: str = ""


@dataclass(frozen=True, slots=True)
class ScoreMove:
    """The score of a label must rise by at least so much, or fall."""

    label: str
    least: float
    is_rise: bool


@dataclass(frozen=True, slots=True)
class BehaviourTest:
    """One test: its templates, and what must hold for the texts they make."""

    name: str
    line: int
    kind: TestKind
    templates: tuple[Mapping[str, str], ...]
    expectation: Any = None  # of the family's own type
    changes: tuple[TextChange, ...] = ()
    moves: tuple[ScoreMove, ...] = ()
    about: str = ""
    variants: int = 1
    max_failures: float = 0.0
    max_texts: int = MOST_TEXTS


@dataclass(frozen=True, slots=True)
class Suite:
    """All tests of one file."""

    name: str
    task: str
    source: YamlSource
    tests: tuple[BehaviourTest, ...]
    lexicons: Mapping[str, tuple[str, ...]]
    model: str = ""  # where whoever runs it names none
    about: str = ""
    seed: int = SEED
    params: dict[str, Json] = field(default_factory=dict)

    @property
    def family(self) -> SuiteFamily:
        return suite_family(self.task)

    def check_labels(self, labels: Sequence[str]) -> None:
        """BadSuite at the first label that a model of these labels never gives; of a tagger, tags name them."""
        known = (
            {label.removeprefix("B-").removeprefix("I-") for label in labels} - {"O"} if self._has_tags else {*labels}
        )
        if not known:
            return
        for test in self.tests:
            marked = [mark[2] for one in test.templates for text in one.values() for mark in MARK.finditer(text)]
            named = [*self.family.labels_in(test.expectation)] if test.expectation is not None else []
            for label in (*named, *(move.label for move in test.moves), *(marked if self._has_tags else ())):
                if label not in known:
                    near = get_close_matches(label, known, 1)
                    what = f"{test.name!r} names the label {label!r}, which the model does not have"
                    raise self.source.error(test.line, what, near[0] if near else f"one of {', '.join(sorted(known))}")

    @property
    def _has_tags(self) -> bool:
        return self.family.uses_marks
