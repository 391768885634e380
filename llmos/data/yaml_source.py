"""YAML that people write: texts, lists and fields with their lines; every error says file, line and what to write.

It is read from parser events, so that nothing in a file is executed or constructed: no tags, no anchors, one document.
A value stays the text that was written: a label `no` or `1` is that label.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from llmos.abi.error import BadInput, BadSuite

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 12
SIGNS = "{[*&!%@`|>#"  # a text that begins with one of these means something else in YAML


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, a number or a word, as it is written."""

    text: str
    line: int
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    line: int
    of: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Fields:
    """Values by key, and the line of each key."""

    line: int
    of: dict[str, Node] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


Node = Scalar | Items | Fields


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A file by name, and how a value in it is read as what it must be."""

    file: str
    keys: frozenset[str] = frozenset()  # that the format has: any other word before a colon is part of a text
    noun: str = "suite"  # what one file is
    beginning: str = "suite: NAME, task: classify, and tests: with a list of tests"
    kind: type[BadInput] = BadSuite

    def error(self, line: int, what: str, write: str) -> BadInput:
        """The error at a line: what is wrong, and what to write instead."""
        return self.kind(f"{self.file}, line {line}: {what}. Write: {write}", file=self.file, line=line)

    def text(self, node: Node, what: str, example: str) -> str:
        """A text that is not empty."""
        if not isinstance(node, Scalar):
            why, write = _meant_as_text(node, example)
            raise self.error(node.line, f"{what} is {_kind(node)} where a text is expected{why}", write)
        if not node.text.strip():
            raise self.error(node.line, f"{what} is empty", example)
        return node.text

    def texts(self, node: Node, what: str, example: str) -> tuple[str, ...]:
        """One text, or a list of texts, at least one."""
        if isinstance(node, Scalar):
            return (self.text(node, what, example),)
        return tuple(self.text(one, what, example) for one in self.items(node, what, example))

    def items(self, node: Node, what: str, example: str) -> list[Node]:
        """A list that is not empty."""
        if not isinstance(node, Items):
            raise self.error(node.line, f"{what} is {_kind(node)} where a list is expected", example)
        if not node.of:
            raise self.error(node.line, f"{what} is an empty list", example)
        return node.of

    def fields(self, node: Node, what: str, known: Sequence[str], example: str) -> Fields:
        """Values by key, of these keys alone."""
        if not isinstance(node, Fields):
            raise self.error(node.line, f"{what} is {_kind(node)} where keys are expected", example)
        for key in node.of:
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise self.error(node.lines[key], f"{what} has no key {key!r}{hint}", f"one of {', '.join(known)}")
        return node

    def number(self, node: Node, what: str, least: float, most: float) -> float:
        """A number in this range; a percentage is a share."""
        text = node.text if isinstance(node, Scalar) else ""
        try:
            value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            shown = repr(text) if text else _kind(node)
            raise self.error(node.line, f"{what} is {shown}", f"a number from {least:g} to {most:g}")
        return value

    def whole(self, node: Node, what: str, least: int, most: int) -> int:
        """A whole number in this range."""
        value = self.number(node, what, least, most)
        if value != int(value):
            raise self.error(node.line, f"{what} is {value:g}", f"a whole number from {least} to {most}")
        return int(value)

    def flag(self, node: Node, what: str) -> bool:
        """true or false."""
        text = node.text.lower() if isinstance(node, Scalar) else ""
        if text not in ("true", "false"):
            raise self.error(node.line, f"{what} is {text or _kind(node)!r}", "true or false")
        return text == "true"


def _meant_as_text(node: Items | Fields, example: str) -> tuple[str, str]:
    """Why a text without quotes is no text to YAML, and the text with them."""
    if isinstance(node, Fields) and len(node.of) == 1:
        ((key, value),) = node.of.items()
        if isinstance(value, Scalar):
            text = f"{key}: {value.text}" if value.text else f"{{{key}}}"
            return f", for {'a colon' if value.text else '{'} begins one", _quote(text)
    if isinstance(node, Items) and len(node.of) == 1 and isinstance(node.of[0], Scalar):
        return ", for [ begins one", _quote(f"[{node.of[0].text}]")
    return "", example


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _kind(node: Node) -> str:
    return {Scalar: "a text", Items: "a list", Fields: "a mapping"}[type(node)]


def parse(text: str, source: YamlSource) -> Node:
    """The one document of this YAML; an error of the source's kind at the first line that cannot be read."""
    import yaml  # not above: other verbs of the command line need none of it

    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise source.error(
            1, f"the file has more than {MAX_BYTES:,} bytes", f"several {source.noun}s, each with a part of it"
        )
    root: list[Node] = []
    open_nodes: list[Items | Fields] = []
    keys: list[Scalar | None] = []  # of each open node: the key that waits for its value
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            _refuse_unsafe(event, source, has_root=bool(root))
            if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                open_nodes.pop()
                keys.pop()
            if isinstance(event, (yaml.ScalarEvent, yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                node = _node(event)
                if open_nodes:
                    _add(open_nodes[-1], keys, node, source)
                else:
                    root.append(node)
                if not isinstance(node, Scalar):
                    open_nodes.append(node)
                    keys.append(None)
                if len(open_nodes) > MAX_DEPTH:
                    raise source.error(node.line, f"lists and keys are more than {MAX_DEPTH} deep", "fewer levels")
    except yaml.YAMLError as error:
        raise _unreadable(error, text, source) from error
    if not root:
        raise source.error(1, "the file is empty", source.beginning)
    return root[0]


def _node(event: yaml.Event) -> Node:
    import yaml

    line = event.start_mark.line + 1
    if isinstance(event, yaml.ScalarEvent):
        return Scalar(event.value, line, event.style in ("'", '"'))
    return Items(line) if isinstance(event, yaml.SequenceStartEvent) else Fields(line)


def _add(parent: Items | Fields, keys: list[Scalar | None], node: Node, source: YamlSource) -> None:
    if isinstance(parent, Items):
        parent.of.append(node)
        return
    key = keys[-1]
    if key is None:
        if not isinstance(node, Scalar):
            raise source.error(node.line, f"a key is {_kind(node)}", "a word, then a colon and a space")
        if node.text in parent.of:
            raise source.error(
                node.line, f"{node.text!r} stands here twice", "it once, with both in one list if need be"
            )
        parent.lines[node.text] = node.line
        parent.of[node.text] = Scalar("", node.line)
        keys[-1] = node
        return
    parent.of[key.text] = node
    keys[-1] = None


def _refuse_unsafe(event: yaml.Event, source: YamlSource, *, has_root: bool) -> None:
    import yaml

    line = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise source.error(
            line, "anchors and aliases (& and *) are not read", "the value itself, in quotes if it is text"
        )
    tag = getattr(event, "tag", None)
    if tag not in (None, "!"):
        raise source.error(line, f"the tag {tag} is not read", "the value without it, in quotes if it is text")
    if isinstance(event, yaml.DocumentStartEvent) and has_root:
        raise source.error(line, "a second document begins", f"one {source.noun} in a file")


def _unreadable(error: yaml.YAMLError, text: str, source: YamlSource) -> BadInput:
    """What YAML's own error means for someone who writes texts."""
    mark, context = getattr(error, "problem_mark", None), str(getattr(error, "context", None) or "")
    if mark is None:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        return source.error(line, "there is a sign that YAML does not allow", "the text without control characters")
    if "quoted scalar" in context:
        line = error.context_mark.line + 1
        return source.error(line, "a quote is opened and not closed", "the same quote at the end of the text, too")
    line = mark.line + 1
    lines = text.splitlines() or [""]
    written = lines[min(line, len(lines)) - 1]
    if "\t" in written[: len(written) - len(written.lstrip())]:
        return source.error(line, "the line begins with a tab", "spaces")
    value = _value_of(written, source.keys)
    if value[:1] in ("'", '"'):
        whole = value[1:].replace(value[0], "", 1)
        return source.error(line, "the quotes do not hold the whole text", _quote(whole))
    if value and value[0] in SIGNS:
        return source.error(line, f"a text that begins with {value[0]} must stand in quotes, whole", _quote(value))
    if ": " in value or value.endswith(":") or " #" in value:
        return source.error(line, "a text with a colon or a # in it must stand in quotes", _quote(value))
    problem = str(getattr(error, "problem", None) or error).partition("\n")[0]
    write = "keys with `: `, lists with `- `, each level two spaces further in"
    return source.error(line, f"not valid YAML ({problem})", write)


def _value_of(line: str, keys: Collection[str]) -> str:
    """What stands on a line behind its dashes and its key."""
    rest = line.strip()
    while rest.startswith("- "):
        rest = rest[2:].lstrip()
    key, colon, value = rest.partition(": ")
    return value.strip() if colon and key in keys else rest


def plain(node: Node) -> object:
    """The node as plain data, its words as JSON has them where they are not quoted: for params of a call."""
    if isinstance(node, Items):
        return [plain(one) for one in node.of]
    if isinstance(node, Fields):
        return {key: plain(one) for key, one in node.of.items()}
    words: Mapping[str, object] = {"true": True, "false": False, "null": None}
    if node.is_quoted:
        return node.text
    if node.text.lower() in words:
        return words[node.text.lower()]
    for kind in (int, float):
        try:
            return kind(node.text)
        except ValueError:
            continue
    return node.text
