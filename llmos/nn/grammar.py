"""Keeping an answer to a grammar: which tokens may come next, and which way it still ends in time.

llguidance knows the grammars; here it is asked, and what it says becomes a mask over logits.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from llmos.abi.error import BadInput
from llmos.nn.tokenizer import WORD_START, FastTokenizer
from llmos.tasks.grammar import JSON_SCHEMA, REGEX, SPACING, Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer  # imported late: only answers that follow a grammar need it

QUOTE, INNER = '"', "~"  # where both may come next, a JSON string is open, for no other place takes the second
CLOSING = ("}", "]", QUOTE, ",", "null", "0", "1", "true", "false", "[", "{")  # what ends JSON soonest, best first
WAY_TOKENS = 96  # no way to an end is looked for further than this
WATCHED_TOKENS = 64  # so many tokens before the last possible end, and from then on, each choice is looked at
MAX_MESSAGE = 400


class Matcher:
    """One answer and its grammar. `take` must be told every token in order, starting with the first.

    `is_whole` once nothing may follow; `was_cut` if it had to be ended early, so that it is valid and yet not all.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: LLTokenizer, ends: frozenset[int], grammar: Grammar) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._ends = ends
        self._grammar = grammar
        self._closing = {text: tokens[0] for text in (*CLOSING, INNER) if len(tokens := _tokens(vocabulary, text)) == 1}
        self._way_tokens = 0
        self.was_cut = False

    @property
    def is_whole(self) -> bool:
        return bool(self._matcher.is_stopped())

    def masked(self, logits: Tensor) -> Tensor:
        """The logits with all tokens ruled out that the grammar does not allow next."""
        allowed = self._allowed()
        if not allowed.any():
            raise _refused(self._grammar, "no token can come next")
        scores = logits.to("cpu", torch.float32, copy=True)
        width = min(len(allowed), len(scores))
        scores[:width].masked_fill_(~allowed[:width], -torch.inf)
        scores[width:] = -torch.inf
        return scores

    def take(self, token: int, left: int) -> int:
        """The token that is taken, with `left` to come after it: this one, or one from which the end can be reached."""
        if token in self._ends:
            return token
        if left > self._way_tokens + WATCHED_TOKENS:
            self._consume(token)
            return token
        way = self._way()
        self._consume(token)
        after = self._way()
        if way is None or (after is not None and len(after) <= left) or not (way or self._ends):
            return token
        self._matcher.rollback(1)
        self.was_cut = True
        if not way:  # it may end here, and further on there is no time to
            return min(self._ends)
        self._consume(way[0])
        return way[0]

    def _consume(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise self._error()

    def _allowed(self) -> Tensor:
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), numpy.uint8)
        if self._matcher.is_error():
            raise self._error()
        return torch.from_numpy(numpy.unpackbits(bits, bitorder="little").view(bool))

    def _way(self) -> list[int] | None:
        """The tokens of a short way to where the answer may end; None where none was found."""
        way: list[int] = []
        try:
            while not (self._matcher.is_accepting() or self._matcher.is_stopped()):
                if len(way) == WAY_TOKENS:
                    return None
                way.append(self._nearest())
                self._consume(way[-1])
            self._way_tokens = len(way)
            return way
        finally:
            self._matcher.rollback(len(way))

    def _nearest(self) -> int:
        """The token that seems to end the answer soonest."""
        if self._may(QUOTE) and self._may(INNER):
            return self._closing[QUOTE]
        found = next((token for text, token in self._closing.items() if text != INNER and self._may(text)), None)
        return self._longest() if found is None else found

    def _may(self, text: str) -> bool:
        token = self._closing.get(text)
        return token is not None and self._matcher.validate_tokens([token]) == 1

    def _longest(self) -> int:
        """Of all tokens that may come, the one that says most: it gets furthest through what has to be said."""
        allowed = self._allowed().nonzero().flatten().tolist()
        return int(max(allowed, key=lambda token: len(self._vocabulary.decode_bytes([token]))))

    def _error(self) -> BadInput:
        return _refused(self._grammar, self._matcher.get_error())


def matcher(grammar: Grammar | None, tokenizer: FastTokenizer, ends: frozenset[int]) -> Matcher | None:
    """What keeps one answer to this grammar; BadInput where it is malformed or nothing can match it."""
    if grammar is None:
        return None
    vocabulary = _vocabulary(tokenizer, ends)
    fresh = _compiled(grammar, vocabulary).deep_copy()
    return Matcher(fresh, vocabulary, ends, grammar)


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: FastTokenizer, ends: frozenset[int]) -> LLTokenizer:
    from llguidance import LLTokenizer

    return LLTokenizer(_known(tokenizer.as_json()), eos_token=sorted(ends) or None)


def _known(text: str) -> str:
    """The tokenizer as llguidance can use it: of SentencePiece's, with Llama's decoder, which says the same.

    What it splits are pieces of an answer, so that no space may be put before one, or taken from it.
    """
    held = json.loads(text)
    decoder = held.get("decoder") or {}
    if "Metaspace" not in [decoder.get("type"), *(one.get("type") for one in decoder.get("decoders") or ())]:
        return text
    space = {"type": "Replace", "pattern": {"String": WORD_START}, "content": " "}
    held["normalizer"] = None
    held["pre_tokenizer"] = {"type": "Metaspace", "replacement": WORD_START, "prepend_scheme": "never", "split": True}
    held["decoder"] = {"type": "Sequence", "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    return json.dumps(held)


@lru_cache(maxsize=64)
def _compiled(grammar: Grammar, vocabulary: LLTokenizer) -> LLMatcher:
    from llguidance import LLMatcher

    if grammar.kind == JSON_SCHEMA:
        try:
            text = LLMatcher.grammar_from_json_schema(grammar.text, overrides=SPACING)
        except ValueError as error:  # nested too deeply to be read
            raise _refused(grammar, str(error)) from error
    elif grammar.kind == REGEX:
        text = LLMatcher.grammar_from_regex(grammar.text)
    else:
        text = LLMatcher.grammar_from_lark(grammar.text)
    made = LLMatcher(vocabulary, text, log_level=0)
    if made.is_error():
        raise _refused(grammar, made.get_error())
    first = made.deep_copy()
    first.compute_bitmask()
    if first.is_error():
        raise _refused(grammar, "nothing can match it")
    return made


def _refused(grammar: Grammar, why: str) -> BadInput:
    said = " ".join(why.partition("<state>")[0].split())[:MAX_MESSAGE]  # what follows is for whoever mends llguidance
    return BadInput(f"The {grammar.kind} cannot be kept to: {said}", key=grammar.kind)


def _tokens(vocabulary: LLTokenizer, text: str) -> list[int]:
    return list(vocabulary.tokenize_str(text))
