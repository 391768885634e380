"""JSON schemas that answers follow: what of one can be enforced while tokens are chosen, and what is left out of it.

The keywords follow JSON Schema 2020-12 and its drafts since 4. What can be enforced is what llguidance enforces; a test
holds the two against each other.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from llmos.abi.error import BadInput
from llmos.tasks.text import shown

Json = Any  # Any: a JSON value that is checked here

MAX_TOLD = 1_000  # characters
MAX_DEPTH = 64  # of schemas within schemas
FORMATS = frozenset(("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"))
MAPS = ("properties", "patternProperties", "$defs", "definitions")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
SINGLE = ("items", "additionalProperties", "additionalItems")
IN_PLACE = ("allOf", "anyOf", "oneOf", "$ref")  # these say more of the same value
# What no mask over the next token can enforce, each with the values that ask for nothing.
NEVER: dict[str, tuple[Json, ...]] = {
    "uniqueItems": (False,),
    "not": (False,),
    "contains": (),
    "if": (),
    "propertyNames": (True, {}),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
}
WITHOUT_MEANING = frozenset(("then", "else", "minContains", "maxContains", "$schema", "$id", "id"))  # of themselves
ABOUT = frozenset(("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"))


def _is_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_types(value: Json) -> bool:
    return isinstance(value, str) or _is_texts(value)


def _is_a(kind: type) -> Callable[[Json], bool]:
    return lambda value: isinstance(value, kind)


SHAPES: dict[str, tuple[Callable[[Json], bool], str]] = {  # of keywords that are read here; null asks for nothing
    "type": (_is_types, "a string, or a list of strings"),
    "required": (_is_texts, "a list of strings"),
    **dict.fromkeys(("enum", *LISTS), (_is_a(list), "a list")),
    **dict.fromkeys(MAPS, (_is_a(dict), "an object")),
    **dict.fromkeys(("pattern", "format", "$ref", "$anchor"), (_is_a(str), "a string")),
}
TOKEN = re.compile(
    r"\\(?:[pP]\{[^}]*\}|.)|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\(\?<(?![=!])|\(\?.?.?|(?:[*+?]|\{\d+(?:,\d*)?\})\??\+?|.",
    re.DOTALL,
)
GROUPS = ("(?:", "(?P<")
FLAGS = re.compile(r"\(\?[-imsux]")
PLAIN_ESCAPE = re.compile(r"\\[^bBAzZGkgKRXhHVcCeEQ0-9<>]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Enforced:
    """A schema without what cannot be enforced. `left_out` maps each such keyword to where it stands first."""

    schema: Json
    left_out: dict[str, str]


def enforced(key: str, schema: Json, *, is_closed: bool = False) -> Enforced:
    """What of the schema can be enforced; BadInput with `key` where it is no schema or nested too deeply.

    With `is_closed`, objects with `properties` and without `additionalProperties` allow no other properties.
    """
    walk = _Walk(key, schema, is_closed=is_closed)
    return Enforced(walk.result(), walk.left_out)


def refused(key: str, found: Enforced, way_out: str = "Leave it out, or do not set strict") -> BadInput:
    """What is said to those who asked for a schema to be enforced in full."""
    word, place = next(iter(found.left_out.items()))
    return BadInput(f"{key} has {word} at {place}, which cannot be enforced. {way_out}", key=key)


def told(found: Mapping[str, Enforced]) -> str:
    """What was left out of the schemas with these names, as one line; empty where all is enforced."""
    line = "; ".join(f"{key}: {', '.join(sorted(one.left_out))}" for key, one in found.items() if one.left_out)
    return line if len(line) <= MAX_TOLD else f"{line[: MAX_TOLD - 4]} ..."


def is_enforceable(pattern: str) -> bool:
    """Whether a regular expression can be followed token by token: it has no look-around and no back reference."""
    plain, tokens = "", TOKEN.findall(pattern)
    for i, one in enumerate(tokens):
        if not _is_plain(one) or _is_inner(tokens, i):
            return False
        plain += "(?P<" if one == "(?<" else "." if one[:2] in (r"\p", r"\P") else one
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(plain)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _is_plain(token: str) -> bool:
    if token.startswith("(?"):
        return token == "(?<" or token.startswith(GROUPS) or FLAGS.match(token) is not None
    if token.startswith("["):
        return "[" not in token[1:] and all(PLAIN_ESCAPE.fullmatch(one) for one in re.findall(r"\\.", token, re.DOTALL))
    if token.startswith("\\"):
        return len(token) > 2 or PLAIN_ESCAPE.fullmatch(token) is not None
    return token != "{" and (len(token) == 1 or not token.endswith("+"))


def _is_inner(tokens: list[str], at: int) -> bool:
    """Whether this is an anchor within a text: what is before or behind it would have to be looked at again."""
    if tokens[at] == "^":
        return at > 0 and tokens[at - 1] != "|"
    return tokens[at] == "$" and at + 1 < len(tokens) and tokens[at + 1] != "|"


class _Walk:
    """One schema on its way through."""

    def __init__(self, key: str, root: Json, *, is_closed: bool) -> None:
        self._key, self._root, self._is_closed = key, root, is_closed
        self._references: list[tuple[dict[str, Json], str]] = []
        self._anchors: set[str] = set()
        self._looked: set[int] = set()
        self._composed: set[str] = set()  # targets of references that say more of a value of which others speak too
        self.left_out: dict[str, str] = {}

    def result(self) -> Json:
        self._look(self._root, "#", 0)
        waiting = list(self._composed)
        while waiting:
            more = set(_beside(_at(self._root, waiting.pop()))) - self._composed
            self._composed |= more
            waiting += more
        made = self._schema(self._root, "#", is_part=False)
        for node, place in self._references:
            if not self._leads(node["$ref"], made):
                self._leave_out("$ref", place)
                del node["$ref"]
        return made

    def _look(self, node: Json, place: str, depth: int) -> None:
        """Anchors and composed references, before the walk; here depth and shapes are checked."""
        if depth > MAX_DEPTH:
            raise BadInput(f"{self._key} is nested more than {MAX_DEPTH} schemas deep. Make it flatter", key=self._key)
        if not isinstance(node, dict) or id(node) in self._looked:
            return
        self._looked.add(id(node))
        self._check(node, place)
        self._look(_at(self._root, str(node.get("$ref"))), str(node.get("$ref")), depth + 1)
        if isinstance(node.get("$anchor"), str):
            self._anchors.add(node["$anchor"])
        self._composed.update(_composed(node))
        for at, child in _children(node):
            self._look(child, f"{place}/{at}", depth + 1)

    def _check(self, node: dict[str, Json], place: str) -> None:
        for word, (is_one, said) in SHAPES.items():
            value = node.get(word)
            if value is not None and not is_one(value):
                raise BadInput(f"{self._key} has {word} = {shown(value)} at {place}; it is {said}", key=self._key)

    def _schema(self, node: Json, place: str, *, is_part: bool) -> Json:
        """The schema without what cannot be enforced; `is_part` if others speak of the same value."""
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise BadInput(f"{self._key} has {shown(node)} at {place}; a schema is an object", key=self._key)
        is_part = is_part or place in self._composed
        made: dict[str, Json] = {}
        for word, value in node.items():
            if word in WITHOUT_MEANING or word in ABOUT or (value is None and word != "const"):
                continue
            if word in NEVER:
                if value not in NEVER[word] and not self._is_said_otherwise(node, word, made):
                    self._leave_out(word, place)
            elif self._is_kept(node, word, value):
                made[word] = self._value(node, word, value, f"{place}/{word}", is_part=is_part)
            else:
                self._leave_out(word, place)
        self._choose(made, place)
        if self._is_closed and not is_part and _is_open(made):
            made["properties"] = made["properties"] | {name: {} for name in _missing(made)}
            made["additionalProperties"] = False
        self._count(made, place, is_part=is_part)
        if "$ref" in made:
            self._references.append((made, place))
        return made

    def _is_said_otherwise(self, node: Json, word: str, made: dict[str, Json]) -> bool:
        """`unevaluatedProperties` of an object that nothing else speaks of is `additionalProperties`."""
        if word != "unevaluatedProperties" or any(one in node for one in IN_PLACE) or "additionalProperties" in node:
            return False
        if node[word] is False:
            made["additionalProperties"] = False
        return node[word] is False

    def _is_kept(self, node: Json, word: str, value: Json) -> bool:
        if word == "pattern":
            return not isinstance(value, str) or is_enforceable(value)
        if word == "format":
            return value in FORMATS or not _may_be(node, "string")
        if word == "$ref":
            is_alone = node.keys() - ABOUT - WITHOUT_MEANING - NEVER.keys() <= {"$ref", "$defs", "definitions"}
            return self._leads(value, self._root) and not self._turns(value, _beside if is_alone else _within)
        return word != "patternProperties" or not isinstance(value, dict) or all(map(is_enforceable, value))

    def _value(self, node: Json, word: str, value: Json, place: str, *, is_part: bool) -> Json:
        if word in MAPS and isinstance(value, dict):
            return {name: self._schema(one, f"{place}/{_escaped(name)}", is_part=False) for name, one in value.items()}
        if (word in LISTS or word == "items") and isinstance(value, list):
            part = word in IN_PLACE and (is_part or word == "allOf" or "properties" in node)
            return [self._schema(one, f"{place}/{i}", is_part=part) for i, one in enumerate(value)]
        if word in SINGLE:
            return self._schema(value, place, is_part=False)
        return value

    def _choose(self, made: dict[str, Json], place: str) -> None:
        """`oneOf` as `anyOf`, which is the same where no value fits two of its branches."""
        if not isinstance(made.get("oneOf"), list):
            return
        branches = made.pop("oneOf")
        if not all(self._differ(one, other) for one, other in combinations(branches[:MAX_DEPTH], 2)):
            self._leave_out("oneOf", place)
        if "anyOf" in made:
            made["allOf"] = [*made.get("allOf", ()), {"anyOf": branches}]
        else:
            made["anyOf"] = branches

    def _differ(self, one: Json, other: Json) -> bool:
        """Whether certainly no value fits both."""
        one, other = self._target(one), self._target(other)
        if not isinstance(one, dict) or not isinstance(other, dict):
            return False
        if (mine := _values(one)) is not None and (yours := _values(other)) is not None:
            return not any(value == another for value in mine for another in yours)
        if not set(_types(one)) & set(_types(other)):
            return True
        both = set(one.get("required") or ()) & set(other.get("required") or ())
        tags = [(one.get("properties", {}).get(name), other.get("properties", {}).get(name)) for name in sorted(both)]
        is_object = _types(one) == _types(other) == ["object"]
        return is_object and any(
            isinstance(a, dict) and isinstance(b, dict) and "const" in a and "const" in b and a["const"] != b["const"]
            for a, b in tags
        )

    def _target(self, node: Json) -> Json:
        for _ in range(MAX_DEPTH):
            if not isinstance(node, dict) or "$ref" not in node:
                break
            node = _at(self._root, node["$ref"])
        return node

    def _count(self, made: dict[str, Json], place: str, *, is_part: bool) -> None:
        """`minProperties` and `maxProperties`, which can be enforced where all properties are required, and known."""
        is_split = is_part or any(word in made for word in IN_PLACE)
        known, needed = set(made.get("properties") or ()), set(made.get("required") or ())
        least, most = made.get("minProperties"), made.get("maxProperties")
        is_shut = made.get("additionalProperties") is False and not made.get("patternProperties")
        if isinstance(least, int) and least <= len(needed):
            made.pop("minProperties")
        elif least is not None and (is_split or not known <= needed):
            made.pop("minProperties")
            self._leave_out("minProperties", place)
        if isinstance(most, int) and is_shut and most >= len(known):
            made.pop("maxProperties")
        elif most is not None and (is_split or not known <= needed):
            made.pop("maxProperties")
            self._leave_out("maxProperties", place)

    def _leads(self, reference: Json, root: Json) -> bool:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return False
        if reference[1:] in self._anchors:
            return True
        return isinstance(_at(root, reference), (dict, bool))

    def _turns(self, reference: str, found_in: Callable[[Json], Iterator[str]]) -> bool:
        """Whether the reference leads to itself by the references that are found in what it leads to."""
        seen: set[str] = set()
        waiting = [reference]
        while waiting:
            for found in found_in(_at(self._root, waiting.pop())):
                if found == reference:
                    return True
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)
        return False

    def _leave_out(self, word: str, place: str) -> None:
        self.left_out.setdefault(word, place)


def _children(node: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    for word in MAPS:
        if isinstance(node.get(word), dict):
            yield from ((f"{word}/{_escaped(name)}", one) for name, one in node[word].items())
    for word in (*LISTS, "items"):
        if isinstance(node.get(word), list):
            yield from ((f"{word}/{i}", one) for i, one in enumerate(node[word]))
    yield from ((word, node[word]) for word in SINGLE if isinstance(node.get(word), dict))


def _beside(node: Json) -> Iterator[str]:
    """References that say more of the same value."""
    if not isinstance(node, dict):
        return
    if isinstance(node.get("$ref"), str):
        yield node["$ref"]
    for word in ("allOf", "anyOf", "oneOf"):
        for one in node[word] if isinstance(node.get(word), list) else ():
            yield from _beside(one)


def _within(node: Json) -> Iterator[str]:
    """All references in a schema."""
    if not isinstance(node, dict):
        return
    if isinstance(node.get("$ref"), str):
        yield node["$ref"]
    for _, child in _children(node):
        yield from _within(child)


def _composed(node: dict[str, Json]) -> Iterator[str]:
    """References to schemas that are parts of what this one says."""
    parts = node["allOf"] if isinstance(node.get("allOf"), list) else []
    for one in parts:
        yield from _beside(one)
    if "properties" in node:
        yield from _beside(node)


def _is_open(made: dict[str, Json]) -> bool:
    """Whether properties are given, nothing is said of others, and nothing else speaks of them."""
    least = made.get("minProperties", 0)
    is_object = isinstance(made.get("properties"), dict) and "additionalProperties" not in made
    has_room = not isinstance(least, int) or (is_object and least <= len(made["properties"]))
    return (
        is_object
        and has_room
        and not any(
            "properties" in one or "$ref" in one
            for word in ("allOf", "anyOf")
            for one in made.get(word, ())
            if isinstance(one, dict)
        )
        and "$ref" not in made
    )


def _missing(made: dict[str, Json]) -> list[str]:
    needed = made.get("required")
    return [one for one in needed if isinstance(one, str) and one not in made["properties"]] if needed else []


def _types(node: dict[str, Json]) -> list[str]:
    kinds = node.get("type")
    if isinstance(kinds, str):
        kinds = [kinds]
    if not isinstance(kinds, list):
        return ["string", "number", "integer", "object", "array", "boolean", "null"]
    return ["integer" if kind == "number" else kind for kind in kinds]


def _may_be(node: dict[str, Json], kind: str) -> bool:
    return kind in _types(node)


def _values(node: dict[str, Json]) -> list[Json] | None:
    if "const" in node:
        return [node["const"]]
    return node["enum"] if isinstance(node.get("enum"), list) else None


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _at(root: Json, reference: str) -> Json:
    """What a reference of the form #/a/b points at (RFC 6901); None where there is nothing."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    for part in reference[2:].split("/"):
        name = (
            re.sub("%([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), part)
            .replace("~1", "/")
            .replace("~0", "~")
        )
        if isinstance(root, dict):
            root = root.get(name)
        elif isinstance(root, list) and name.isdecimal() and int(name) < len(root):
            root = root[int(name)]
        else:
            return None
    return root
