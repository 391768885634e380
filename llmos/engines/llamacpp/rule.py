"""Checks a rule before generation and the answer after it, because llama.cpp ignores rules it cannot enforce.

So it is read here first, by the same library, and what was written is held against it.
"""

from __future__ import annotations

import json
import re

from llguidance import LLMatcher, LLTokenizer

from llmos.abi.error import Unavailable
from llmos.nn.grammar.grammar_text import lark_of, limits
from llmos.nn.grammar.proof import prove, refusal_of
from llmos.tasks.grammar import JSON_SCHEMA, REGEX, SPACING, Grammar

BYTES = "byte"  # a vocabulary of single bytes: a rule is about text, whatever the model's tokens are
SLASH = re.compile(r"\\.|/", re.DOTALL)  # and what is escaped already


def _escape(found: re.Match[str]) -> str:
    return r"\/" if found[0] == "/" else found[0]


class LlamaCppRule:
    """One answer's rule; BadInput where it is malformed, or nothing can match it."""

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
        """As llama.cpp takes it."""
        return f"%llguidance {{}}\n{self.text}\n"

    def check(self, text: str, *, is_whole: bool) -> None:
        """Unavailable if an answer, or what there was time for of it, does not follow the rule."""
        tokens = list(self._bytes.tokenize_bytes(text.encode()))
        kept = self._matcher.deep_copy()
        follows = kept.validate_tokens(tokens) == len(tokens)
        if follows and is_whole:
            kept.consume_tokens(tokens)
            follows = kept.is_accepting() or kept.is_stopped()
        if not follows:
            raise Unavailable(f"llama.cpp's answer does not match its {self._kind}. Use another engine: pytorch")
