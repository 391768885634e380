"""Checks a rule before generation and the answer after it, because llama.cpp ignores rules it cannot enforce.

The same library is used for both: the rule is compiled here first, and the finished answer is matched against it.
"""

from __future__ import annotations

import json
import re

from llguidance import LLMatcher, LLTokenizer

from llmos.abi.error import Unavailable
from llmos.nn.grammar.grammar_text import lark_of, limits
from llmos.nn.grammar.proof import prove, refusal_of
from llmos.tasks.grammar import JSON_SCHEMA, REGEX, SPACING, Grammar

BYTES = "byte"  # a vocabulary of single bytes, because the rule is about text and not about the model's tokens
SLASH = re.compile(r"\\.|/", re.DOTALL)  # a slash, or anything that is escaped already


def _escape(found: re.Match[str]) -> str:
    return r"\/" if found[0] == "/" else found[0]


class LlamaCppRule:
    """One answer's rule; BadInput if it is malformed or nothing can match it."""

    def __init__(self, grammar: Grammar) -> None:
        prove(grammar)
        self._kind = grammar.param
        self._bytes = LLTokenizer(BYTES)
        if grammar.kind == JSON_SCHEMA:
            self.text = f"start: %json {json.dumps({**json.loads(grammar.text), 'x-guidance': SPACING})}"
        elif grammar.kind == REGEX:
            self.text = f"start: /{SLASH.sub(_escape, grammar.text)}/"
        else:
            self.text = lark_of(grammar.text)
        self._matcher = LLMatcher(self._bytes, LLMatcher.grammar_from_lark(self.text), log_level=0, limits=limits())
        first = self._matcher.deep_copy()
        if not first.is_error():
            first.compute_bitmask()
        if first.is_error():
            raise refusal_of(grammar, first.get_error(), searches=True)

    @property
    def as_llguidance(self) -> str:
        """The rule in the form that llama.cpp takes."""
        return f"%llguidance {{}}\n{self.text}\n"

    def check(self, text: str, *, is_whole: bool) -> None:
        """Raise Unavailable if an answer, or its part before a limit, does not follow the rule."""
        tokens = list(self._bytes.tokenize_bytes(text.encode()))
        kept = self._matcher.deep_copy()
        follows = kept.validate_tokens(tokens) == len(tokens)
        if follows and is_whole:
            kept.consume_tokens(tokens)
            follows = kept.is_accepting() or kept.is_stopped()
        if not follows:
            raise Unavailable(
                f"llama.cpp's answer does not match its {self._kind}. Use another engine: pytorch", rule=self._kind
            )
