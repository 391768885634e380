"""The rules of weak labelling as data: what each looks at, and which labels it may vote for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmos.abi.endpoint import EndpointAddress

HYPOTHESIS = "{}"


@dataclass(frozen=True, slots=True)
class WeakRule:
    """What all rules have: the name that reports call it by, and its line in the file."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class KeywordRule(WeakRule):
    """Votes for its label where a text has one of these words or phrases; a word with * at its end stands for all that
    begin so. Case does not count."""

    label: str
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PatternRule(WeakRule):
    """Votes for its label where a regular expression of Python is found in the text, as it is written (re.search)."""

    label: str
    pattern: str


@dataclass(frozen=True, slots=True)
class ColumnRule(WeakRule):
    """Votes for what another column of the row says. `labels` translates values; one that is no label abstains."""

    column: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelRule(WeakRule):
    """Votes for the label that a model of the store gives, where it is at least this sure. `labels` translates."""

    model: str
    labels: Mapping[str, str]
    least: float


@dataclass(frozen=True, slots=True)
class ZeroShotRule(WeakRule):
    """Votes for the label whose description is nearest to the text, by a base's vectors, where it is this sure."""

    base: str
    labels: Mapping[str, str]  # each label with its description
    least: float
    hypothesis: str = HYPOTHESIS


@dataclass(frozen=True, slots=True)
class ChatRule(WeakRule):
    """Votes for the label that a model which writes finds likeliest as its answer, where it is this sure.

    Its prompt has the labels with their descriptions, then the examples, each a text and its label.
    """

    model: str
    labels: Mapping[str, str]  # each label with its description
    examples: tuple[tuple[str, str], ...]
    least: float


@dataclass(frozen=True, slots=True)
class EndpointRule(WeakRule):
    """Votes for the label that a model behind an OpenAI-shaped address answers with.

    Where the server gives log-probabilities, an answer that is less likely than `least` abstains.
    """

    url: str  # such as http://host:8000/v1
    model: str
    labels: Mapping[str, str]  # each label with its description
    examples: tuple[tuple[str, str], ...]
    least: float

    @property
    def address(self) -> EndpointAddress:
        """Where it is asked."""
        return EndpointAddress(self.url, self.model)


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The rules of a file, in its order, and the labels that it declares; none: those of the dataset."""

    file: str
    rules: tuple[WeakRule, ...]
    labels: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The models of the store that the rules ask, each once."""
        return tuple(dict.fromkeys(asked for rule in self.rules if (asked := asked_by(rule))))


def asked_by(rule: WeakRule) -> str:
    """The model of the store that a rule asks; empty if it asks none."""
    if isinstance(rule, ModelRule | ChatRule):
        return rule.model
    return rule.base if isinstance(rule, ZeroShotRule) else ""


def labels_of(rule: WeakRule) -> tuple[str, ...]:
    """The labels that a rule names; none where only its column or model knows."""
    if isinstance(rule, KeywordRule | PatternRule):
        return (rule.label,)
    if isinstance(rule, ZeroShotRule | ChatRule | EndpointRule):
        return tuple(rule.labels)
    assert isinstance(rule, ColumnRule | ModelRule)
    return tuple(dict.fromkeys(rule.labels.values()))
