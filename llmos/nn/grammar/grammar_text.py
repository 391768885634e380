"""Converts a rule (JSON schema, regular expression, Lark grammar) to llguidance's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmos.tasks.grammar import JSON_SCHEMA, REGEX, SPACING, Grammar

if TYPE_CHECKING:
    from llguidance import LLParserLimits  # imported late: only answers that follow a grammar need it

FIRST_FUEL = 50_000  # of the first mask: ~50 ms; of the largest rules of use, a twentieth is spent
STEP_FUEL = 100_000  # of each: ~10 ms
STEP_ITEMS = 20_000  # ~50 ms


def limits() -> LLParserLimits:
    """What one mask may cost: neighbours wait for it. A rule that needs more ends its own answer."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=FIRST_FUEL, step_lexer_fuel=STEP_FUEL, step_max_items=STEP_ITEMS, verbose_errors=False
    )


def text_of(grammar: Grammar) -> str:
    """The grammar as llguidance's own text; ValueError where JSON is nested too deeply to be read."""
    from llguidance import LLMatcher

    if grammar.kind == JSON_SCHEMA:
        return str(LLMatcher.grammar_from_json_schema(grammar.text, overrides=SPACING))
    if grammar.kind == REGEX:
        return str(LLMatcher.grammar_from_regex(grammar.text))
    return str(LLMatcher.grammar_from_lark(lark_of(grammar.text)))


def lark_of(text: str) -> str:
    """A grammar in Lark, whether it came so or as GBNF; ValueError for what is none."""
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return str(any_to_lark(text)) if "::=" in text else text
    except Exception as error:  # it raises Exception itself
        raise ValueError(str(error)) from error
