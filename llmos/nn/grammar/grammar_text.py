"""Converts a rule (JSON schema, regular expression, Lark grammar) to llguidance's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmos.tasks.grammar import JSON_SCHEMA, REGEX, SPACING, Grammar

if TYPE_CHECKING:
    from llguidance import LLParserLimits  # imported late: only answers that follow a grammar need it

FIRST_FUEL = 50_000  # of the first mask: about 50 ms; the largest rules in use need a twentieth of it
STEP_FUEL = 100_000  # of each step: about 10 ms
STEP_ITEMS = 20_000  # about 50 ms


def limits() -> LLParserLimits:
    """The limits of one mask: other sequences in the batch wait for it.

    A rule that exceeds them ends its own answer.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=FIRST_FUEL, step_lexer_fuel=STEP_FUEL, step_max_items=STEP_ITEMS, verbose_errors=False
    )


def text_of(grammar: Grammar) -> str:
    """The grammar in llguidance's format; ValueError if JSON is nested too deeply to be read."""
    from llguidance import LLMatcher

    if grammar.kind == JSON_SCHEMA:
        return str(LLMatcher.grammar_from_json_schema(grammar.text, overrides=SPACING))
    if grammar.kind == REGEX:
        return str(LLMatcher.grammar_from_regex(grammar.text))
    return str(LLMatcher.grammar_from_lark(lark_of(grammar.text)))


def lark_of(text: str) -> str:
    """A grammar in Lark, converted if it is GBNF; ValueError if it is neither."""
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return str(any_to_lark(text)) if "::=" in text else text
    except Exception as error:  # llguidance raises plain Exception
        raise ValueError(str(error)) from error
