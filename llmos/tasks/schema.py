"""JSON schemas that answers follow: what can be enforced during decoding, and what is left out.

The keywords follow JSON Schema 2020-12 and its drafts since 4. What can be enforced is what llguidance enforces; a test
compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks.branches import TYPES, differ, types_of
from llmos.tasks.pattern import is_enforceable
from llmos.tasks.text import quote_value

MAX_TOLD = 1_000  # characters
MAX_DEPTH = 64  # of schemas within schemas
MAX_PLACE = 200  # characters of where something stands, as it is told
MAX_BOUND, LEAST_BOUND = 10**17, 1e-15  # of numbers: what is beyond, or nearer to zero, llguidance cannot count to
MAX_COUNT = 10**9  # characters of a text, items of a list
MAX_STEP, STEP_DIGITS = 2**31 - 1, 9  # of multipleOf, as a whole number, and digits behind its point
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
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
# they have no meaning of their own
WITHOUT_MEANING = frozenset(("then", "else", "minContains", "maxContains", "$schema", "$id", "id"))
ABOUT = frozenset(("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"))


def _is_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_types(value: Json) -> bool:
    return isinstance(value, str) or _is_texts(value)


def _is_a(kind: type) -> Callable[[Json], bool]:
    return lambda value: isinstance(value, kind)


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_bound(value: Json) -> bool:
    return isinstance(value, (int, float))  # true and false are what draft 4 says beside minimum and maximum


def _is_step(value: Json) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Json) -> bool:
    return _is_number(value) and value >= 0 and value == value // 1


def _is_choice(value: Json) -> bool:
    return isinstance(value, list) and len(value) > 0


SHAPES: dict[str, tuple[Callable[[Json], bool], str]] = {  # of keywords that are read here; null asks for nothing
    "type": (_is_types, "a string, or a list of strings"),
    "required": (_is_texts, "a list of strings"),
    **dict.fromkeys(("allOf", "prefixItems"), (_is_a(list), "a list")),
    **dict.fromkeys(("enum", "anyOf", "oneOf"), (_is_choice, "a list, and not an empty one")),
    **dict.fromkeys(("minimum", "maximum"), (_is_number, "a number")),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), (_is_bound, "a number")),
    "multipleOf": (_is_step, "a number over 0"),
    **dict.fromkeys(COUNTS, (_is_count, "a whole number from 0")),
    **dict.fromkeys(MAPS, (_is_a(dict), "an object")),
    **dict.fromkeys(("pattern", "format", "$ref", "$anchor"), (_is_a(str), "a string")),
}


@dataclass(frozen=True, slots=True)
class Enforced:
    """A schema without what cannot be enforced. `left_out` maps each such keyword to its first place."""

    schema: Json
    left_out: dict[str, str]


def enforceable(key: str, schema: Json, *, is_closed: bool = False) -> Enforced:
    """The enforceable part of the schema; BadInput with `key` if it is malformed or nested too deeply.

    With `is_closed`, objects with `properties` and without `additionalProperties` allow no other properties.
    """
    walk = _Walk(key, schema, is_closed=is_closed)
    return Enforced(walk.result(), walk.left_out)


def not_enforceable(key: str, found: Enforced, way_out: str = "Leave it out, or do not set strict") -> BadInput:
    """The error for a request that wants its schema enforced in full."""
    word, place = next(iter(found.left_out.items()))
    return BadInput(
        f"{key} has {word} at {place}, which cannot be enforced. {way_out}", key=key, keyword=word, place=place
    )


def describe_left_out(found: Mapping[str, Enforced]) -> str:
    """What was left out of the schemas with these names, in one line; empty if everything is enforced."""
    line = "; ".join(f"{key}: {', '.join(sorted(one.left_out))}" for key, one in found.items() if one.left_out)
    return line if len(line) <= MAX_TOLD else f"{line[: MAX_TOLD - 4]} ..."


Place = tuple[Any, str]  # Any: the place of the schema around it, or None for the root


class _Walk:
    """Processes one schema: a check of all of it, then the conversion."""

    def __init__(self, key: str, root: Json, *, is_closed: bool) -> None:
        self._key, self._root, self._is_closed = key, root, is_closed
        self._nodes: dict[int, dict[str, Json]] = {}  # every schema in it, by its identity
        self._anchors: dict[str, Json] = {}
        self._targets: dict[str, Json] = {}
        self._look()
        self._composed = self._parts()  # targets of references that say more of a value of which others speak too
        self._loops: dict[Callable[[Json], Iterable[Json]], set[int]] = {}
        self.left_out: dict[str, str] = {}

    def result(self) -> Json:
        references: list[tuple[dict[str, Json], Place]] = []
        made = self._schema(self._root, (None, "#"), references, is_part=False)
        for node, place in references:
            said = node["$ref"]
            if said[1:] not in self._anchors and not isinstance(_at(made, said), (dict, bool)):
                self._leave_out("$ref", place)
                del node["$ref"]
        return made

    def _look(self) -> None:
        """Anchors, and every schema; depth and shapes are checked."""
        waiting: list[tuple[Json, Place, int]] = [(self._root, (None, "#"), 0)]
        while waiting:
            node, place, depth = waiting.pop()
            if depth > MAX_DEPTH:
                said = f"{self._key} is nested more than {MAX_DEPTH} schemas deep. Make it flatter"
                raise BadInput(said, key=self._key, limit=MAX_DEPTH)
            if isinstance(node, bool):
                continue
            if not isinstance(node, dict):
                said = f"{self._key} has {quote_value(node)} at {_told_place(place)}; a schema is an object"
                raise BadInput(said, key=self._key, place=_told_place(place))
            self._nodes[id(node)] = node
            self._check(node, place)
            if node.get("$anchor") is not None:
                self._anchors[node["$anchor"]] = node
            waiting += [(child, (place, at), depth + 1) for at, child in _children(node)]

    def _check(self, node: dict[str, Json], place: Place) -> None:
        for word in node.keys() & SHAPES.keys():
            is_one, said = SHAPES[word]
            if node[word] is not None and not is_one(node[word]):
                at = _told_place(place)
                raise BadInput(
                    f"{self._key} has {word} = {quote_value(node[word])} at {at}; it must be {said}",
                    key=self._key,
                    keyword=word,
                    place=at,
                    value=quote_value(node[word]),
                )

    def _parts(self) -> set[int]:
        found: set[int] = set()
        seen: set[int] = set()
        waiting: list[Json] = []
        for node in self._nodes.values():
            waiting += node.get("allOf") or ()
            waiting += [node] if "properties" in node else ()
        while waiting:
            node = waiting.pop()
            if not isinstance(node, dict) or id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(target := self._target(node.get("$ref")), dict):
                found.add(id(target))
            waiting += self._beside(node)
        return found

    def _target(self, reference: Json) -> Json:
        """The schema that a reference of this schema leads to; None where there is none."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        if reference not in self._targets:
            found = self._anchors.get(reference[1:], _at(self._root, reference))
            self._targets[reference] = found if isinstance(found, bool) or id(found) in self._nodes else None
        return self._targets[reference]

    def _beside(self, node: dict[str, Json]) -> list[Json]:
        """Schemas that say more of the same value."""
        parts = [one for word in ("allOf", "anyOf", "oneOf") for one in node.get(word) or ()]
        return [self._target(node.get("$ref")), *parts]

    def _within(self, node: dict[str, Json]) -> list[Json]:
        """Schemas in a schema, and what it refers to."""
        return [self._target(node.get("$ref")), *(child for _, child in _children(node))]

    def _turning(self, found_in: Callable[[Json], Iterable[Json]]) -> set[int]:
        """Schemas to which a reference leads that lies in what they lead to themselves."""
        if found_in not in self._loops:
            circle = _circles(self._nodes, found_in)
            pairs = ((id(node), self._target(node.get("$ref"))) for node in self._nodes.values())
            self._loops[found_in] = {
                id(target) for at, target in pairs if isinstance(target, dict) and circle[at] == circle[id(target)]
            }
        return self._loops[found_in]

    def _schema(
        self, node: Json, place: Place, references: list[tuple[dict[str, Json], Place]], *, is_part: bool
    ) -> Json:
        """The schema without what cannot be enforced; `is_part` if others speak of the same value."""
        if isinstance(node, bool):
            return node
        is_part = is_part or id(node) in self._composed
        made: dict[str, Json] = {}
        for word, value in _as_today(node).items():
            if word in WITHOUT_MEANING or word in ABOUT or (value is None and word != "const"):
                continue
            if word in NEVER:
                if value not in NEVER[word] and not self._is_said_otherwise(node, word, made):
                    self._leave_out(word, place)
            elif self._is_kept(node, word, value, is_part=is_part):
                made[word] = self._value(node, word, value, (place, word), references, is_part=is_part)
            else:
                self._leave_out(word, place)
                if word == "patternProperties":  # whose names are no others
                    made["additionalProperties"] = True
        self._choose(made, place)
        if self._is_closed and not is_part and _is_open(made):
            made["properties"] = made["properties"] | {name: {} for name in _missing(made)}
            made["additionalProperties"] = False
        self._count(made, place, is_part=is_part)
        if "$ref" in made:
            references.append((made, place))
        return made

    def _is_said_otherwise(self, node: Json, word: str, made: dict[str, Json]) -> bool:
        """`unevaluatedProperties` of an object that nothing else speaks of is `additionalProperties`."""
        if word != "unevaluatedProperties" or any(one in node for one in IN_PLACE) or "additionalProperties" in node:
            return False
        if node[word] is False:
            made["additionalProperties"] = False
        return node[word] is False

    def _is_kept(self, node: Json, word: str, value: Json, *, is_part: bool) -> bool:
        if word == "pattern":
            return is_enforceable(value)
        if word == "format":
            return value in FORMATS or not _may_be(node, "string")
        if word == "type":
            return all(kind in TYPES for kind in ([value] if isinstance(value, str) else value))
        if word in BOUNDS:
            return bool(value == 0 or LEAST_BOUND <= abs(value) <= MAX_BOUND)
        if word in COUNTS:
            return bool(value <= MAX_COUNT)
        if word == "multipleOf":
            return not is_part and _is_short(value)
        if word == "$ref":
            is_alone = node.keys() - ABOUT - WITHOUT_MEANING - NEVER.keys() <= {"$ref", "$defs", "definitions"}
            target = self._target(value)
            if not isinstance(target, dict):
                return isinstance(target, bool)
            return id(target) not in self._turning(self._beside if is_alone else self._within)
        if word != "patternProperties":
            return (
                word != "additionalProperties" or "patternProperties" not in node or self._has_patterns(node, is_part)
            )
        return self._has_patterns(node, is_part)

    def _has_patterns(self, node: Json, is_part: bool) -> bool:
        """Whether the patterns of names can be enforced: of two, no name may match both."""
        patterns = node["patternProperties"] or {}
        return len(patterns) <= 1 and (not is_part or not patterns) and all(map(is_enforceable, patterns))

    def _value(
        self,
        node: Json,
        word: str,
        value: Json,
        place: Place,
        references: list[tuple[dict[str, Json], Place]],
        *,
        is_part: bool,
    ) -> Json:
        if word in MAPS:
            return {
                name: self._schema(one, (place, _escape(name)), references, is_part=False)
                for name, one in value.items()
            }
        if word in LISTS or (word == "items" and isinstance(value, list)):
            part = word in IN_PLACE and (is_part or word == "allOf" or "properties" in node)
            return [self._schema(one, (place, str(i)), references, is_part=part) for i, one in enumerate(value)]
        if word in SINGLE:
            return self._schema(value, place, references, is_part=False)
        return int(value) if word in COUNTS else value

    def _choose(self, made: dict[str, Json], place: Place) -> None:
        """`oneOf` as `anyOf`, which is the same where no value fits two of its branches."""
        if "oneOf" not in made:
            return
        branches = made.pop("oneOf")
        if not differ([self._resolve_reference(one) for one in branches]):
            self._leave_out("oneOf", place)
        if "anyOf" in made:
            made["allOf"] = [*made.get("allOf", ()), {"anyOf": branches}]
        else:
            made["anyOf"] = branches

    def _resolve_reference(self, node: Json) -> Json:
        """What a schema that is a reference refers to."""
        for _ in range(MAX_DEPTH):
            if not isinstance(node, dict) or "$ref" not in node:
                break
            node = self._target(node["$ref"])
        return node

    def _count(self, made: dict[str, Json], place: Place, *, is_part: bool) -> None:
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

    def _leave_out(self, word: str, place: Place) -> None:
        if word not in self.left_out:
            self.left_out[word] = _told_place(place)


def _told_place(place: Place) -> str:
    """A pointer into the schema (RFC 6901), in part where it is long."""
    parts: list[str] = []
    rest: Place | None = place
    while rest is not None:
        parts.append(rest[1])
        rest = rest[0]
    said = "/".join(reversed(parts))
    return said if len(said) <= MAX_PLACE else f"{said[: MAX_PLACE - 4]} ..."


def _circles(nodes: Mapping[int, Json], found_in: Callable[[Json], Iterable[Json]]) -> dict[int, int]:
    """For each schema a number that it shares with those it leads to and that lead to it (Tarjan 1972)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    circle: dict[int, int] = {}
    path: list[int] = []
    for start in nodes:
        if start in index:
            continue
        index[start] = low[start] = len(index)
        path.append(start)
        open_ones = [(start, iter(found_in(nodes[start])))]
        while open_ones:
            at, rest = open_ones[-1]
            other = next((id(one) for one in rest if isinstance(one, dict) and id(one) not in circle), None)
            if other is None:
                open_ones.pop()
                if open_ones:
                    low[open_ones[-1][0]] = min(low[open_ones[-1][0]], low[at])
                while low[at] == index[at] and at not in circle:
                    circle[path.pop()] = index[at]
            elif other in index:
                low[at] = min(low[at], index[other])
            else:
                index[other] = low[other] = len(index)
                path.append(other)
                open_ones.append((other, iter(found_in(nodes[other]))))
    return circle


def _as_today(node: dict[str, Json]) -> dict[str, Json]:
    """The schema with draft 4's `exclusiveMinimum: true` beside `minimum` as later drafts say it, and its maximum."""
    if not isinstance(node.get("exclusiveMinimum"), bool) and not isinstance(node.get("exclusiveMaximum"), bool):
        return node
    made = dict(node)
    for word, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(said := made.get(word), bool):
            del made[word]
            if said and made.get(bound) is not None:
                made[word] = made.pop(bound)
    return made


def _is_short(step: float) -> bool:
    """Whether a step is a whole number of few digits once its point is moved, as llguidance moves it."""
    for _ in range(STEP_DIGITS + 1):
        if step == step // 1:
            return step <= MAX_STEP
        step *= 10
    return False


def _children(node: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    for word in MAPS:
        if isinstance(node.get(word), dict):
            yield from ((f"{word}/{_escape(name)}", one) for name, one in node[word].items())
    for word in (*LISTS, "items"):
        if isinstance(node.get(word), list):
            yield from ((f"{word}/{i}", one) for i, one in enumerate(node[word]))
    given = ((word, node.get(word)) for word in SINGLE)
    yield from (
        (word, one) for word, one in given if one is not None and (word != "items" or not isinstance(one, list))
    )


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


def _may_be(node: dict[str, Json], kind: str) -> bool:
    return kind in types_of(node)


def _escape(name: str) -> str:
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
