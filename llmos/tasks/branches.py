"""Branches of a JSON schema's `oneOf`: whether no value fits two of them, so that `anyOf` can be enforced instead."""

from __future__ import annotations

from llmos.abi.json_type import Json

MAX_TAGS = 8  # properties that distinguish branches, one after another
TYPES = ("string", "number", "integer", "object", "array", "boolean", "null")


def differ(branches: list[Json]) -> bool:
    """Whether certainly no value fits two of these. The time is linear in their number."""
    if not all(isinstance(one, dict) for one in branches):
        return False
    plain, listed = [], []
    for one in branches:
        values = _keys_of(_values(one))
        if values is None:
            plain.append(one)
        else:
            listed.append((one, values))
    if not _are_apart([values for _, values in listed]):
        return False
    kinds = [kind for one in plain for kind in types_of(one) if kind != "object"]
    taken = {kind for one, values in listed for kind in _listed_types(one, values)}
    if len(set(kinds)) < len(kinds) or taken & {kind for one in plain for kind in types_of(one)}:
        return False
    return _are_told_apart([_tags(one) for one in plain if "object" in types_of(one)], MAX_TAGS)


def _are_apart(sets: list[frozenset[Json]]) -> bool:
    """Whether these sets are pairwise disjoint."""
    return len(frozenset().union(*sets)) == sum(map(len, sets))


def _are_told_apart(branches: list[dict[str, frozenset[Json]]], depth: int) -> bool:
    """Whether the values of required properties distinguish all of these objects."""
    if len(branches) <= 1:
        return True
    if not depth:
        return False
    for name in set.intersection(*(set(one) for one in branches)):
        groups: dict[frozenset[Json], list[dict[str, frozenset[Json]]]] = {}
        for one in branches:
            groups.setdefault(one[name], []).append({at: said for at, said in one.items() if at != name})
        if len(groups) > 1 and _are_apart(list(groups)):
            return all(_are_told_apart(group, depth - 1) for group in groups.values())
    return False


def _tags(node: dict[str, Json]) -> dict[str, frozenset[Json]]:
    """The required properties with a finite set of values, and these values."""
    properties, needed = node.get("properties") or {}, node.get("required") or ()
    found = ((name, properties[name]) for name in needed if isinstance(properties.get(name), dict))
    known = ((name, _keys_of(_values(one))) for name, one in found)
    return {name: values for name, values in known if values is not None}


def _keys_of(values: list[Json] | None) -> frozenset[Json] | None:
    """Keys that make equal JSON values equal (1 and 1.0, but not true); None if a value is not a scalar."""
    if values is None or not all(one is None or isinstance(one, (str, int, float)) for one in values):
        return None
    return frozenset((_kind_of(one), one) for one in values)


def _kind_of(value: Json) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return "string" if isinstance(value, str) else "integer"


def _listed_types(node: dict[str, Json], values: frozenset[Json]) -> set[str]:
    return set(types_of(node)) & {kind for kind, _ in values}


def types_of(node: dict[str, Json]) -> list[str]:
    """The types that a value may have; `number` includes `integer`."""
    kinds = node.get("type")
    if isinstance(kinds, str):
        kinds = [kinds]
    if kinds is None or not all(kind in TYPES for kind in kinds):
        kinds = list(TYPES)
    return list(dict.fromkeys("integer" if kind == "number" else kind for kind in kinds))


def _values(node: dict[str, Json]) -> list[Json] | None:
    if "const" in node:
        return [node["const"]]
    return node["enum"] if isinstance(node.get("enum"), list) else None
