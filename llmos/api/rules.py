"""Structured output in the formats of OpenAI, Hugging Face and vLLM, converted to our params."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.api.call_service import CallFields
from llmos.tasks.grammar import ANY_OBJECT, JSON_SCHEMA, LARK, REGEX, fitting, schema_text
from llmos.tasks.schema import Enforced, describe_left_out, enforceable, not_enforceable
from llmos.tasks.text import quote_value

log = logging.getLogger(__name__)

NOT_ENFORCED = b"x-llmos-not-enforced"  # the header that names the parts of a request's schemas that are not enforced
MAX_CHOICES = 10_000
TEXT, ANY_JSON = "text", ("json_object", "json")


class NamedSchema(msgspec.Struct, forbid_unknown_fields=True):
    """A JSON schema in OpenAI's wrapper. With `strict`, a schema that cannot be enforced in full is refused."""

    schema: dict[str, Json] | None = None
    name: str = ""
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's `text`, `json_object` and `json_schema`, also with other servers' `schema` or `value`; Hugging Face's
    `json` and `regex` with `value`."""

    type: str
    json_schema: NamedSchema | None = None
    schema: dict[str, Json] | None = None
    value: Json = None


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """vLLM's structured outputs: one of the first five fields. Options about white space are ignored."""

    json: dict[str, Json] | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_fallback: bool | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None
    whitespace_pattern: str | None = None
    structural_tag: str | None = None


class Ruled(CallFields, kw_only=True, forbid_unknown_fields=True):
    """The structured-output fields of a request: our params, and vLLM's names."""

    json_schema: dict[str, Json] | None = None
    regex: str | None = None
    grammar: str | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Json] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_json_object: bool | None = None
    guided_decoding_backend: str | None = None
    guided_whitespace_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as our param: its `name` there, the request's `key`, and the parts that are left out."""

    key: str
    name: str
    value: Json
    left_out: dict[str, Enforced] = field(default_factory=dict)


@contextmanager
def naming_rule(rule: Rule | None) -> Iterator[None]:
    """Inside this block, errors about the rule carry the key that the request used."""
    try:
        yield
    except LlmosError as error:
        raise rename_key(error, rule) from error


def rename_key(error: LlmosError, rule: Rule | None) -> LlmosError:
    """An error about this rule, with the key that the request used."""
    if rule is None or rule.key == rule.name or error.detail.get("key") != rule.name:
        return error
    message = error.message.replace(rule.name, rule.key, 1)
    return type(error)(message, **{**error.detail, "key": rule.key})


def headers_of(left_out: Mapping[str, Enforced], model: str) -> list[tuple[bytes, bytes]]:
    """The header that names the schema parts that are not enforced, also logged; none if all are."""
    line = describe_left_out(left_out)
    if not line:
        return []
    log.info("%s: not enforced: %s", model, line)
    return [(NOT_ENFORCED, line.encode("ascii", "replace"))]


def rule_of(said: Ruled) -> Rule | None:
    """The one rule of a request; BadInput if there are two, or one that cannot be enforced."""
    found = [
        *((name, name, value) for name in (JSON_SCHEMA, REGEX, LARK) if (value := getattr(said, name)) is not None),
        *(_of_format(said.response_format) if said.response_format is not None else ()),
        *(_of_outputs(said.structured_outputs) if said.structured_outputs is not None else ()),
        *_vllm_rule(said),
    ]
    if len(found) > 1:
        both = f"{found[0][0]} and {found[1][0]}"
        raise BadInput(
            f"The body has both {both}; an answer follows one rule. Send one of them",
            key=found[1][0],
            reason="two_rules",
        )
    if not found:
        return None
    key, name, value = found[0]
    if name != JSON_SCHEMA or key == JSON_SCHEMA:  # our own param reports itself what cannot be enforced
        return Rule(key, name, value)
    return _schema(key, value, is_strict=_is_strict(said), is_closed=_is_closed(said))


Found = tuple[str, str, Json]


def _of_format(said: ResponseFormat) -> list[Found]:
    key = "response_format"
    if said.type == TEXT:
        return []
    if said.type in ANY_JSON:
        given = [one for one in (said.schema, said.value) if one is not None]
        if len(given) > 1:
            raise BadInput(f"{key} has both schema and value. Send one of them", key=key)
        return [(key, JSON_SCHEMA, given[0] if given else ANY_OBJECT)]
    if said.type == REGEX:
        return [(key, REGEX, said.value)]
    if said.type != JSON_SCHEMA:
        raise BadInput(
            f"{key}.type is {quote_value(said.type)}; it must be text, json_object or json_schema",
            key=key,
            value=quote_value(said.type),
        )
    schema = said.json_schema.schema if said.json_schema is not None else said.schema
    if schema is None and isinstance(said.value, dict):  # Hugging Face's newer format
        schema = said.value.get("schema", said.value)
    if schema is None:
        example = '{"type": "json_schema", "json_schema": {"name": "...", "schema": {...}}}'
        raise BadInput(f"{key} has no schema. Send {example}", key=key, reason="no_schema")
    return [(key, JSON_SCHEMA, schema)]


def _of_outputs(said: StructuredOutputs) -> list[Found]:
    key = "structured_outputs"
    for name in ("whitespace_pattern", "structural_tag"):
        if getattr(said, name) is not None:
            raise BadInput(f"{key}.{name} is not supported. Leave it out", key=key)
    named = (said.json, said.regex, said.choice, said.grammar, said.json_object)
    found = _vllm_fields(key, *named)
    if len(found) != 1:
        raise BadInput(f"{key} has {len(found)} of json, regex, choice, grammar and json_object. Send one", key=key)
    return found


def _vllm_rule(said: Ruled) -> list[Found]:
    if said.guided_whitespace_pattern is not None:
        key = "guided_whitespace_pattern"
        raise BadInput(f"{key} is not supported. Leave it out", key=key)
    return [
        *_vllm_fields("guided_json", json=said.guided_json),
        *_vllm_fields("guided_regex", regex=said.guided_regex),
        *_vllm_fields("guided_choice", choice=said.guided_choice),
        *_vllm_fields("guided_grammar", grammar=said.guided_grammar),
        *_vllm_fields("guided_json_object", json_object=said.guided_json_object),
    ]


def _vllm_fields(
    key: str,
    json: Json = None,
    regex: str | None = None,
    choice: list[str] | None = None,
    grammar: str | None = None,
    json_object: bool | None = None,
) -> list[Found]:
    """The rule in vLLM's fields."""
    found: list[Found] = []
    if json is not None:
        found.append((key, JSON_SCHEMA, _decode_schema(key, json)))
    if regex is not None:
        found.append((key, REGEX, regex))
    if choice is not None:
        found.append((key, REGEX, _one_of(key, choice)))
    if grammar is not None:
        found.append((key, LARK, grammar))
    if json_object:
        found.append((key, JSON_SCHEMA, ANY_OBJECT))
    return found


def _decode_schema(key: str, schema: Json) -> Json:
    if not isinstance(schema, str):
        return schema
    try:
        return msgspec.json.decode(schema)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadInput(f"{key} is no JSON: {quote_value(schema)}. Send a schema as an object", key=key) from error


def _one_of(key: str, choices: list[str]) -> str:
    """A regular expression that matches exactly these texts."""
    if not 0 < len(choices) <= MAX_CHOICES or "" in choices:
        said = f"it has {len(choices):,}" if "" not in choices else "one is empty"
        raise BadInput(f"{key} is 1 to {MAX_CHOICES:,} texts to choose from; {said}", key=key)
    return fitting(key, "|".join(re.escape(one) for one in dict.fromkeys(choices)))


def _schema(key: str, schema: Json, *, is_strict: bool, is_closed: bool) -> Rule:
    fitting(key, schema_text(key, schema))
    found = enforceable(key, schema, is_closed=is_closed)
    if found.left_out and is_strict:
        raise not_enforceable(key, found)
    return Rule(key, JSON_SCHEMA, found.schema, {key: found})


def _is_strict(said: Ruled) -> bool:
    wrapped = None if said.response_format is None else said.response_format.json_schema
    return wrapped is not None and wrapped.strict is True


def _is_closed(said: Ruled) -> bool:
    return said.structured_outputs is not None and said.structured_outputs.disable_additional_properties is True
