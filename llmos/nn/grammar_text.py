"""A rule as llguidance reads it."""

from __future__ import annotations

from llmos.tasks.grammar import JSON_SCHEMA, REGEX, SPACING, Grammar


def text_of(grammar: Grammar) -> str:
    """The grammar as llguidance's own text; ValueError where JSON is nested too deeply to be read."""
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import any_to_lark

    if grammar.kind == JSON_SCHEMA:
        return str(LLMatcher.grammar_from_json_schema(grammar.text, overrides=SPACING))
    if grammar.kind == REGEX:
        return str(LLMatcher.grammar_from_regex(grammar.text))
    lark = any_to_lark(grammar.text) if "::=" in grammar.text else grammar.text
    return str(LLMatcher.grammar_from_lark(lark))
