"""What an answer must look like: a JSON schema, a regular expression or a grammar. What each allows, nn knows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks.schema import enforceable, not_enforceable
from llmos.tasks.text import quote_value, whole

JSON_SCHEMA, REGEX, LARK = "json_schema", "regex", "grammar"
TOOLS = "tools"  # the key of a rule that tools make
PARAMS = (JSON_SCHEMA, REGEX, LARK)
MAX_CHARS = 100_000
ANY_OBJECT: Json = {"type": "object"}
# How JSON is spaced: as json.dumps does. Free spacing lets a small model write blanks until its tokens are spent.
SPACING: Json = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True, slots=True)
class Grammar:
    """A rule for a whole answer; `kind` says how `text` is written, `key` names the field of a request that gave it.

    With `prose_until`, plain text is an answer too, up to this mark, so that one may follow the rule and yet be cut.
    """

    kind: str
    text: str
    key: str = ""
    prose_until: str = ""

    @property
    def param(self) -> str:
        return self.key or self.kind


def grammar_of(params: dict[str, Json]) -> Grammar | None:
    """The rule in these params; BadInput where it is no rule at all, or there are two."""
    given = [key for key in PARAMS if params.get(key) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise BadInput(
            f"An answer follows one rule, and this has {' and '.join(given)}. Send one of them",
            key=given[1],
            reason="two_rules",
        )
    kind, value = given[0], params[given[0]]
    if kind == JSON_SCHEMA:
        return Grammar(kind, _enforceable_schema(fitting(kind, schema_text(kind, value))))
    if not isinstance(value, str) or not value.strip():
        example = r"[0-9]{5}" if kind == REGEX else 'start: "yes" | "no"'
        raise BadInput(
            f"{kind} is {quote_value(value)}; it must be a text, such as {example}", key=kind, value=quote_value(value)
        )
    return Grammar(kind, fitting(kind, value))


@lru_cache(maxsize=64)
def _enforceable_schema(text: str) -> str:
    """A schema that is enforced in full; BadInput for one that cannot be."""
    found = enforceable(JSON_SCHEMA, msgspec.json.decode(text))
    if found.left_out:
        raise not_enforceable(JSON_SCHEMA, found, "Leave it out")
    return schema_text(JSON_SCHEMA, found.schema)


def schema_text(key: str, schema: Json) -> str:
    """A JSON schema as text, its properties in the order that they were given in."""
    if not isinstance(schema, dict):
        example = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
        raise BadInput(
            f"{key} is {quote_value(schema)}; it must be an object, such as {example}",
            key=key,
            value=quote_value(schema),
        )
    try:
        return msgspec.json.encode(schema).decode()
    except RecursionError as error:
        raise BadInput(f"{key} is nested too deeply. Make it flatter", key=key) from error
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{key} has half of a surrogate pair. Send whole characters", key=key, reason="surrogate"
        ) from error


def fitting(kind: str, text: str) -> str:
    """A rule's text; BadInput where it is longer than any rule needs to be, or no text that UTF-8 can say."""
    if len(text) > MAX_CHARS:
        raise BadInput(f"{kind} has {len(text):,} characters; it may have {MAX_CHARS:,}", key=kind, limit=MAX_CHARS)
    return whole(kind, text)
