"""A shortest valid instance of a JSON schema or a regular expression.

It is a guess: llguidance decides what a rule allows, so the caller validates it first.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from llmos.abi.json_type import Json
from llmos.tasks.grammar import JSON_SCHEMA, REGEX, TOOLS, Grammar
from llmos.tasks.tools import CLOSE, OPEN, parts_of

Parsed = Any  # Any: a pattern parsed by Python's own untyped parser

MAX_CHARS = 1 << 15
ROUNDS = 16  # depth of references that refer to references
LIKED = 'a0A.@-:/_ "' + "".join(map(chr, range(33, 127))) + "\n\té"
ANYTHING = "0"
SAMPLES = {
    "date-time": "0000-01-01T00:00:00Z",
    "date": "0000-01-01",
    "time": "00:00:00Z",
    "duration": "P0D",
    "email": "a@a",
    "hostname": "a",
    "ipv4": "0.0.0.0",
    "ipv6": "::",
    "uri": "a:",
    "uuid": "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
}


def instance(grammar: Grammar) -> bytes | None:
    """A short answer that this rule may allow; None if no guess is found."""
    try:
        if grammar.kind == JSON_SCHEMA:
            found = of_schema(json.loads(grammar.text))
        elif grammar.key == TOOLS:
            found = of_calls(grammar.text)
        else:
            found = of_pattern(grammar.text) if grammar.kind == REGEX else None
    except RecursionError:
        return None
    return None if found is None else found.encode(errors="replace")


def of_schema(schema: Json) -> str | None:
    """A short JSON text for this schema, according to the keywords that are known here."""
    known: dict[str, str] = {}
    for _ in range(ROUNDS):
        before = len(known)
        found = _Instances(schema, known).of(schema)
        if found is not None or len(known) == before:
            return found
    return None


def of_calls(text: str) -> str | None:
    """The shortest call under a tools rule that requires a call; else None."""
    if f'start: "{OPEN}" calls' not in text:
        return None
    calls = ((one.name, of_schema(json.loads(one.schema))) for one in parts_of(text))
    return _shortest(
        f'{OPEN}\n{{"name": "{name}", "arguments": {said}}}\n{CLOSE}' for name, said in calls if said is not None
    )


class _Instances:
    """The shortest instance of each schema. A reference is resolved once an instance without itself is known."""

    def __init__(self, root: Json, known: dict[str, str]) -> None:
        self._root, self._known = root, known
        self._tried: set[str] = set()

    def of(self, schema: Json) -> str | None:
        if not isinstance(schema, dict):
            return None if schema is False else ANYTHING
        if "$ref" in schema:
            return self._of_reference(schema["$ref"])
        if "const" in schema:
            return json.dumps(schema["const"], ensure_ascii=False)
        if "enum" in schema:
            return _shortest(json.dumps(one, ensure_ascii=False) for one in schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                rest = {key: value for key, value in schema.items() if key != word}
                return _shortest(self.of(_merge_schemas(rest, one)) for one in schema[word])
        if "allOf" in schema:
            made = {key: value for key, value in schema.items() if key != "allOf"}
            for one in schema["allOf"]:
                made = _merge_schemas(made, one)
            return self.of(made)
        kinds = schema.get("type") or _implied_types(schema)
        return _shortest(self._of_type(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))

    def _of_reference(self, reference: str) -> str | None:
        if reference not in self._known and reference not in self._tried:
            self._tried.add(reference)
            found = self.of(_target(self._root, reference))
            if found is not None:
                self._known[reference] = found
        return self._known.get(reference)

    def _of_type(self, kind: str, schema: Json) -> str | None:
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string":
                return _string(schema)
            case "integer" | "number":
                return _number(schema)
        return {"null": "null", "boolean": "true"}.get(kind)

    def _object(self, schema: Json) -> str | None:
        properties, needed = schema.get("properties") or {}, schema.get("required") or ()
        names = [*(one for one in properties if one in needed), *(one for one in needed if one not in properties)]
        others = schema.get("additionalProperties", True)
        return _join_parts("{}", [(name, self.of(properties.get(name, others))) for name in names])

    def _array(self, schema: Json) -> str | None:
        first, others = schema.get("prefixItems") or [], schema.get("items", True)
        count = schema.get("minItems", 0)
        if not isinstance(count, int) or count > MAX_CHARS:
            return None
        one = self.of(others) if count > len(first) else ""
        if one is None or len(one) * count > MAX_CHARS:
            return None
        rest = [one] * (count - len(first))
        return _join_parts("[]", [("", self.of(one)) for one in first[:count]] + [("", one) for one in rest])


def of_pattern(pattern: str) -> str | None:
    """A short text that matches this regular expression; None if Python parses it differently or cannot."""
    parse: Callable[[str], Parsed] = importlib.import_module("re._parser").parse
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _sequence(parse(pattern.replace("(?<", "(?P<")))
    except (re.error, OverflowError):
        return None


def _sequence(parts: Parsed) -> str | None:
    said = ""
    for operator, value in parts:
        one = _part(str(operator), value)
        if one is None or len(said) + len(one) > MAX_CHARS:
            return None
        said += one
    return said


def _part(operator: str, value: Parsed) -> str | None:
    match operator:
        case "LITERAL":
            return chr(value)
        case "NOT_LITERAL":
            return next(one for one in LIKED if one != chr(value))
        case "ANY":
            return LIKED[0]
        case "IN":
            return next((one for one in LIKED if _is_in(one, value)), None) or _first(value)
        case "BRANCH":
            return _shortest(_sequence(one) for one in value[1])
        case "SUBPATTERN":
            return _sequence(value[-1])
        case "AT":
            return ""
        case "MAX_REPEAT" | "MIN_REPEAT":
            one = _sequence(value[2]) if value[0] else ""
            return None if one is None or len(one) * value[0] > MAX_CHARS else one * value[0]
    return None


def _is_in(char: str, members: Parsed) -> bool:
    is_not = str(members[0][0]) == "NEGATE"
    return any(_is_one(char, str(kind), value) for kind, value in members if str(kind) != "NEGATE") is not is_not


def _is_one(char: str, kind: str, value: Parsed) -> bool:
    match kind:
        case "LITERAL":
            return chr(value) == char
        case "RANGE":
            return ord(char) in range(value[0], value[1] + 1)
    said = str(value).removeprefix("CATEGORY_")
    wanted = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[said.removeprefix("NOT_")]
    return (re.match(wanted, char, re.ASCII) is not None) is not said.startswith("NOT_")


def _first(members: Parsed) -> str | None:
    """The first character of a set that has none of the preferred letters."""
    for kind, value in members:
        if str(kind) in ("LITERAL", "RANGE"):
            return chr(value if str(kind) == "LITERAL" else value[0])
    return None


def _string(schema: Json) -> str | None:
    least = schema.get("minLength", 0)
    if "pattern" in schema:
        said = of_pattern(schema["pattern"])
        return None if said is None else json.dumps(said, ensure_ascii=False)
    said = SAMPLES.get(schema.get("format", ""), "")
    return None if least > MAX_CHARS else json.dumps(said + "a" * (least - len(said)))


def _number(schema: Json) -> str | None:
    """The number nearest to zero within the bounds, with one digit if possible."""
    step = schema.get("multipleOf", 1)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    low, high = max(above, schema.get("minimum", -math.inf)), min(below, schema.get("maximum", math.inf))
    starts = [0, *(round(one / step) for one in (low, high) if math.isfinite(one))]
    near = [times * step for start in starts for times in (start, start + 1, start - 1)]
    fitting = (one for one in near if low <= one <= high and above < one < below)
    return _shortest(json.dumps(int(one) if one == int(one) else one) for one in fitting)


def _implied_types(schema: Json) -> str | tuple[str, ...]:
    if any(word in schema for word in ("properties", "required", "minProperties")):
        return "object"
    if any(word in schema for word in ("minItems", "prefixItems", "items")):
        return "array"
    return "string" if any(word in schema for word in ("pattern", "format", "minLength")) else "integer"


def _merge_schemas(one: Json, other: Json) -> Json:
    """One schema that means both; keywords of the second replace equal ones of the first."""
    if not one or not isinstance(other, dict):
        return one if other is True else other
    made = {**one, **other}
    if "properties" in one and "properties" in other:
        made["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        made["required"] = [*one["required"], *other["required"]]
    return made


def _target(root: Json, reference: str) -> Json:
    node = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            node = node.get(name, False) if isinstance(node, dict) else False
    return node


def _join_parts(brackets: str, members: Iterable[tuple[str, str | None]]) -> str | None:
    said: list[str] = []
    for name, value in members:
        if value is None:
            return None
        said.append(f"{json.dumps(name, ensure_ascii=False)}: {value}" if brackets == "{}" else value)
    text = f"{brackets[0]}{', '.join(said)}{brackets[1]}"
    return text if len(text) <= MAX_CHARS else None


def _shortest(found: Iterable[str | None]) -> str | None:
    return min((one for one in found if one is not None), key=len, default=None)
