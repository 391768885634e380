"""Reads rules from YAML or JSON. A rule that cannot work is refused with its line and what to write instead."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from llmos.abi.endpoint import EXAMPLE as ADDRESS
from llmos.abi.endpoint import endpoint_in
from llmos.abi.error import BadInput
from llmos.data.weak_labels.rules import (
    HYPOTHESIS,
    ChatRule,
    ColumnRule,
    EndpointRule,
    KeywordRule,
    ModelRule,
    PatternRule,
    RuleFile,
    WeakRule,
    ZeroShotRule,
    labels_of,
)
from llmos.data.yaml_source import Fields, Node, YamlSource, parse

MOST_RULES = 1_000
MOST_PATTERN = 10_000  # characters
EXAMPLE = "{label: sports, keywords: [team, coach, 'world cup']}"
ENDPOINT = f"endpoint: '{ADDRESS}'"
FILE_KEYS = ("labels", "rules")
COMMON = ("name",)
SHOWN = 10  # labels that an error names

Reader = Callable[[str, int, Fields, YamlSource], WeakRule]


def read_rules(text: str, file: str) -> RuleFile:
    """The rules in this text; BadInput at the first line that says something wrong."""
    keys = frozenset((*FILE_KEYS, *COMMON, *(key for known in KINDS.values() for key in known[0])))
    source = YamlSource(file, keys, "file of rules", f"rules: with a list such as - {EXAMPLE}", BadInput)
    node = parse(text, source)
    top = source.fields(node, "the file", FILE_KEYS, f"rules: with a list such as - {EXAMPLE}").of
    if "rules" not in top:
        raise source.error(node.line, "the file has no key 'rules'", f"rules: with a list such as - {EXAMPLE}")
    labels = source.texts(top["labels"], "labels", "labels: [sports, business]") if "labels" in top else ()
    nodes = source.items(top["rules"], "rules", f"- {EXAMPLE}")
    if len(nodes) > MOST_RULES:
        raise source.error(nodes[MOST_RULES].line, f"there are {len(nodes):,} rules", f"at most {MOST_RULES:,}")
    rules: list[WeakRule] = []
    lines: dict[str, int] = {}
    for number, one in enumerate(nodes, 1):
        rule = _read_rule(one, number, source)
        if rule.name in lines:
            what = f"two rules are called {rule.name!r}, this one and that of line {lines[rule.name]}"
            raise source.error(rule.line, what, "another name: for one of them")
        lines[rule.name] = rule.line
        rules.append(rule)
    found = RuleFile(file, tuple(rules), tuple(labels))
    if labels:
        check_labels(found, labels)
    return found


def check_labels(rules: RuleFile, known: tuple[str, ...]) -> None:
    """BadInput for the first rule that votes for a label which is none of these."""
    for rule in rules.rules:
        for label in labels_of(rule):
            if label not in known:
                near = get_close_matches(label, known, 1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                more = f", and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
                raise BadInput(
                    f"{rules.file}, line {rule.line}: the rule {rule.name!r} votes for {label!r}, which is no label of "
                    f"the rows{hint}. Write: one of {', '.join(known[:SHOWN])}{more}; or name it under labels:",
                    file=rules.file,
                    line=rule.line,
                    rule=rule.name,
                    value=label,
                    expected=list(known)[:SHOWN],
                )


def _read_rule(node: Node, number: int, source: YamlSource) -> WeakRule:
    if not isinstance(node, Fields):
        source.fields(node, "a rule", (), EXAMPLE)  # raises
    assert isinstance(node, Fields)
    kinds = [kind for kind in KINDS if kind in node.of]
    if len(kinds) != 1:
        said = f"both {kinds[0]} and {kinds[1]}" if kinds else f"none of {', '.join(KINDS)}"
        raise source.error(node.line, f"rule {number} has {said}", f"one of them, such as {EXAMPLE}")
    known, read = KINDS[kinds[0]]
    source.fields(node, "the rule", (*COMMON, *known), EXAMPLE)
    named = node.of.get("name")
    name = source.text(named, "name", "name: scores") if named is not None else f"{kinds[0]} {number}"
    return read(name, node.line, node, source)


def _label_of(node: Fields, source: YamlSource) -> str:
    if "label" not in node.of:
        raise source.error(node.line, "the rule has no label", "label: sports")
    return source.text(node.of["label"], "label", "label: sports")


def _keywords(name: str, line: int, node: Fields, source: YamlSource) -> KeywordRule:
    words = source.texts(node.of["keywords"], "keywords", "keywords: [team, coach]")
    for one in words:
        if "*" in one.rstrip("*") or one.endswith("**") or one == "*" or ("*" in one and " " in one):
            what = f"the keyword {one!r} has a * that is not the end of one word"
            raise source.error(node.lines["keywords"], what, "terror* for all words that begin so, or pattern:")
    return KeywordRule(name, line, _label_of(node, source), words)


def _pattern(name: str, line: int, node: Fields, source: YamlSource) -> PatternRule:
    text, at = source.text(node.of["pattern"], "pattern", r"pattern: '\d+-\d+'"), node.lines["pattern"]
    if len(text) > MOST_PATTERN:
        raise source.error(at, f"the pattern has {len(text):,} characters", f"at most {MOST_PATTERN:,}, or keywords:")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of patterns that a later Python may read otherwise
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        what = f"the pattern of {name!r} is no regular expression ({error})"
        raise source.error(at, what, r"pattern: '\d+-\d+' in single quotes, for one") from error
    return PatternRule(name, line, _label_of(node, source), text)


def _column(name: str, line: int, node: Fields, source: YamlSource) -> ColumnRule:
    column = source.text(node.of["column"], "column", "column: category")
    return ColumnRule(name, line, column, _texts_by_key(node, source, "labels: {Sport: sports}"))


def _model(name: str, line: int, node: Fields, source: YamlSource) -> ModelRule:
    model = source.text(node.of["model"], "model", "model: topics")
    return ModelRule(name, line, model, _texts_by_key(node, source, "labels: {Sport: sports}"), _least(node, source))


def _zero_shot(name: str, line: int, node: Fields, source: YamlSource) -> ZeroShotRule:
    base = source.text(node.of["zero_shot"], "zero_shot", "zero_shot: minilm")
    example = "labels: {sports: news about sports, business: markets and companies}"
    labels = _texts_by_key(node, source, example)
    if len(labels) < 2:
        raise source.error(node.line, "zero_shot needs two labels at least, each with a description", example)
    hypothesis = source.text(node.of["hypothesis"], "hypothesis", "") if "hypothesis" in node.of else HYPOTHESIS
    if hypothesis.count(HYPOTHESIS) != 1:
        what = f"hypothesis is {hypothesis!r}, which has not one {{}}"
        raise source.error(node.lines["hypothesis"], what, "'This text is about {}.'")
    return ZeroShotRule(name, line, base, labels, _least(node, source), hypothesis)


def _chat(name: str, line: int, node: Fields, source: YamlSource) -> ChatRule:
    model = source.text(node.of["chat"], "chat", "chat: smollm2")
    return ChatRule(name, line, model, *_prompt_parts(node, source, "chat"), _least(node, source))


def _endpoint(name: str, line: int, node: Fields, source: YamlSource) -> EndpointRule:
    address = source.text(node.of["endpoint"], "endpoint", ENDPOINT)
    found = endpoint_in(address)
    if found is None:
        what = "endpoint is no address of a server with the name of its model behind a #, without a password"
        raise source.error(node.lines["endpoint"], what, ENDPOINT)
    return EndpointRule(
        name, line, found.url, found.model, *_prompt_parts(node, source, "endpoint"), _least(node, source)
    )


def _prompt_parts(node: Fields, source: YamlSource, kind: str) -> tuple[Mapping[str, str], tuple[tuple[str, str], ...]]:
    """The labels with their descriptions, and the examples, of a rule that asks by a prompt."""
    example = "labels: {sports: news about sports, business: markets and companies}"
    labels = _texts_by_key(node, source, example)
    if len(labels) < 2:
        raise source.error(node.line, f"{kind} needs two labels at least, each with a description", example)
    shown = "{text: 'The team won.', label: sports}"
    examples = []
    for one in source.items(node.of["examples"], "examples", f"- {shown}") if "examples" in node.of else ():
        fields = source.fields(one, "an example", ("text", "label"), shown).of
        if len(fields) < 2:
            raise source.error(one.line, "an example has a text and a label", shown)
        label = source.text(fields["label"], "label", "label: sports")
        if label not in labels:
            what = f"the example's label {label!r} is none of the rule's"
            raise source.error(fields["label"].line, what, f"one of {', '.join(labels)}")
        examples.append((source.text(fields["text"], "text", shown), label))
    return labels, tuple(examples)


def _texts_by_key(node: Fields, source: YamlSource, example: str) -> Mapping[str, str]:
    """The rule's `labels`: a text for each key; empty where it has none."""
    if "labels" not in node.of:
        return {}
    given = node.of["labels"]
    if not isinstance(given, Fields):
        raise source.error(given.line, "labels is not a text for each label", example)
    return {key: source.text(value, f"labels: {key}", example) for key, value in given.of.items()}


def _least(node: Fields, source: YamlSource) -> float:
    return source.number(node.of["least"], "least", 0.0, 1.0) if "least" in node.of else 0.0


KINDS: Mapping[str, tuple[tuple[str, ...], Reader]] = {
    "keywords": (("keywords", "label"), _keywords),
    "pattern": (("pattern", "label"), _pattern),
    "column": (("column", "labels"), _column),
    "model": (("model", "labels", "least"), _model),
    "chat": (("chat", "labels", "examples", "least"), _chat),
    "endpoint": (("endpoint", "labels", "examples", "least"), _endpoint),
    "zero_shot": (("zero_shot", "labels", "least", "hypothesis"), _zero_shot),
}
