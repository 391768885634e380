"""Constrained decoding: the token mask of a grammar, and a way to complete the answer within its token budget.

llguidance enforces the grammar; this file turns its answers into a mask over logits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from llmos.abi.error import BadInput
from llmos.nn.grammar.ending import shortest
from llmos.nn.grammar.grammar_text import limits, text_of
from llmos.nn.grammar.instance import instance
from llmos.nn.grammar.keys import Keys
from llmos.nn.grammar.proof import prove, refusal_of
from llmos.nn.text.tokenizer import WORD_START, FastTokenizer
from llmos.tasks.grammar import JSON_SCHEMA, TOOLS, Grammar
from llmos.tasks.tools import called_in

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer  # imported late: only constrained answers need it

STATES = 8_000  # limit of the first search for a completion, some tenths of a second
FEW_STATES = 1_000  # limit where a completion is known and a shorter one is sought
STEP_STATES = 600  # limit of a search in the middle of an answer: the rest of the batch waits for it
RESTS = 64  # at most this many bytes of the known completion are dropped, to reuse its rest


class Matcher:
    """One answer and its grammar. Call `take` with every token in order, from the first on.

    It always knows a completion that fits the token budget, and refuses tokens after which there is none. If no
    completion was found for the grammar (`way` is None), there is no such guarantee.
    """

    def __init__(self, compiled: Compiled, ends: frozenset[int], grammar: Grammar) -> None:
        self._matcher = compiled.matcher.deep_copy()
        self._bytes = None if compiled.over_bytes is None else compiled.over_bytes.deep_copy()
        self._vocabulary = compiled.vocabulary
        self._way, self._text = compiled.way, compiled.text
        self._keys = _keys(grammar)
        self._said = b""  # the answer's bytes, kept if it may call a tool
        self._prose = b""  # the bytes before the JSON
        self._unread = b""  # the bytes that the byte-level matcher has not consumed yet
        self._ends = ends
        self._grammar = grammar
        self.was_cut = False

    @property
    def least(self) -> int:
        """The tokens of the shortest known answer, before the first token; 0 if none is known."""
        return len(self._way or ())

    @property
    def is_whole(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def is_complete(self) -> bool:
        """Whether the text so far is a complete answer, and not prose that was cut off."""
        return not self._grammar.prose_until and self._is_end()

    def mask(self, logits: Tensor) -> Tensor:
        """The logits with -inf for all tokens that the grammar does not allow next."""
        allowed = self._allow()
        if not allowed.any():
            raise self._refuse("no token can come next")
        scores = logits.to("cpu", torch.float32, copy=True)
        width = min(len(allowed), len(scores))
        scores[:width].masked_fill_(~allowed[:width], -torch.inf)
        scores[width:] = -torch.inf
        return scores

    def take(self, token: int, left: int) -> int | None:
        """Accept this token, with `left` tokens to come, or force another that can still be completed; returns the one
        taken.

        None if this token would repeat a key; the caller must then choose another.
        """
        if token in self._ends:
            return token
        data = self._vocabulary.decode_bytes([token])
        keys = None if self._keys is None else self._keys.after(data)
        if self._keys is not None and keys is None:
            return None
        if self._way is None:
            self._consume(token)
            self._came(data, keys)
            return token
        self._consume(token)
        found = self._find_end(token, data, keys, left)
        if found is None:
            self._matcher.rollback(1)
            return self.force()
        self._way, self._text = found
        self._came(data, keys)
        return token

    def force(self) -> int:
        """Take the next token of the known completion, or an end token."""
        if self._way is None or not (self._way or self._ends):
            raise self._refuse("no token can come next")
        self.was_cut = True
        if not self._way:
            return min(self._ends)
        token, *rest = self._way
        data = self._vocabulary.decode_bytes([token])
        self._consume(token)
        self._way, self._text = tuple(rest), self._text[len(data) :]
        self._came(data, None if self._keys is None else self._keys.after(data))
        return token

    def _came(self, data: bytes, keys: Keys | None) -> None:
        self._keys = keys
        self._unread += data
        if self._grammar.key == TOOLS:
            self._said += data
        if keys is None and (marker := self._grammar.prose_until.encode()):
            self._prose += data
            _, found, rest = self._prose.partition(marker)
            self._keys = Keys().after(rest) if found else None

    def _find_end(self, token: int, data: bytes, keys: Keys | None, left: int) -> Way | None:
        """A completion after this token, which is consumed: the known one, a rest of it, or a new one."""
        if self._way and token == self._way[0]:
            return self._way[1:], self._text[len(data) :]
        for text in dict.fromkeys(self._rests(data)):
            way = self._way if text == self._text else self._tokens(text)
            if way is not None and len(way) <= left and self._ends_with(way, text, keys):
                return way, text
        if self._bytes is None:
            return None
        self._bytes.consume_tokens(list(self._unread))
        self._unread = b""
        ahead = self._bytes.deep_copy()
        if not ahead.consume_tokens(list(data)):
            return None
        text_found = shortest(ahead, keys, STEP_STATES).end
        way = None if text_found is None else self._tokens(text_found)
        if text_found is None or way is None or len(way) > left or not self._ends_with(way, text_found, keys):
            return None
        return way, text_found

    def _rests(self, data: bytes) -> Iterator[bytes]:
        """Candidates for the rest of the known completion after these bytes."""
        if self._text.startswith(data):
            yield self._text[len(data) :]
        yield self._text
        yield self._text[len(data) :]
        yield from (self._text[at:] for at in range(1, min(len(self._text), RESTS)))
        if self._keys is not None:  # a string may have begun where the known completion has another value
            after = (at for at in range(min(len(self._text), RESTS)) if self._text[at] in b",}]")
            yield from (b'"' + self._text[at:] for at in after)

    def _tokens(self, text: bytes) -> tuple[int, ...] | None:
        return _tokens(self._vocabulary, text)

    def _ends_with(self, way: Sequence[int], text: bytes, keys: Keys | None) -> bool:
        if keys is not None and keys.after(text) is None:
            return False
        if self._matcher.validate_tokens(list(way)) < len(way):
            return False
        if way:
            self._matcher.consume_tokens(list(way))
        is_end = self._is_end()
        self._matcher.rollback(len(way))
        return is_end

    def _is_end(self) -> bool:
        return not self._matcher.is_error() and (self._matcher.is_accepting() or self._matcher.is_stopped())

    def _consume(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise self._error()

    def _allow(self) -> Tensor:
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), numpy.uint8)
        if self._matcher.is_error():
            raise self._error()
        return torch.from_numpy(numpy.unpackbits(bits, bitorder="little").view(bool))

    def _error(self) -> BadInput:
        return self._refuse(self._matcher.get_error())

    def _refuse(self, why: str) -> BadInput:
        return refusal_of(self._grammar, why, called=called_in(self._said.decode(errors="replace")))


Way = tuple[tuple[int, ...], bytes]  # tokens and their text


@dataclass(frozen=True, slots=True)
class Compiled:
    """A grammar compiled over a vocabulary and over single bytes, with the tokens and text of the shortest known
    answer."""

    vocabulary: LLTokenizer
    matcher: LLMatcher
    over_bytes: LLMatcher | None
    way: tuple[int, ...] | None
    text: bytes


def least(grammar: Grammar | None, tokenizer: FastTokenizer, ends: frozenset[int]) -> int:
    """The tokens of the shortest known answer under this grammar; 0 without a grammar."""
    return 0 if grammar is None else len(_compile_grammar(grammar, _vocabulary(tokenizer, ends)).way or ())


def matcher(grammar: Grammar | None, tokenizer: FastTokenizer, ends: frozenset[int]) -> Matcher | None:
    """The matcher for one answer; BadInput if the grammar is malformed or nothing can match it."""
    if grammar is None:
        return None
    return Matcher(_compile_grammar(grammar, _vocabulary(tokenizer, ends)), ends, grammar)


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: FastTokenizer, ends: frozenset[int]) -> LLTokenizer:
    from llguidance import LLTokenizer

    return LLTokenizer(_llguidance_tokenizer(tokenizer.as_json()), eos_token=sorted(ends) or None)


def _llguidance_tokenizer(text: str) -> str:
    """The tokenizer's JSON for llguidance. SentencePiece tokenizers get Llama's equivalent decoder.

    It tokenizes pieces of an answer, so it must not add or remove a leading space.
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
def _compile_grammar(grammar: Grammar, vocabulary: LLTokenizer) -> Compiled:
    prove(grammar)
    made = _matcher(grammar, vocabulary)
    if made.is_error():
        raise refusal_of(grammar, made.get_error(), searches=True)
    first = made.deep_copy()
    first.compute_bitmask()
    if first.is_error():
        raise refusal_of(grammar, "nothing can match it", searches=True)
    over_bytes = _matcher(grammar, _single_bytes())
    if over_bytes.is_error():  # it names a token of the vocabulary, which single bytes do not have
        return Compiled(vocabulary, made, None, None, b"")
    ends = ((_tokens(vocabulary, end), end) for end in _ends(grammar, over_bytes))
    ways = [(way, end) for way, end in ends if way is not None and made.validate_tokens(list(way)) == len(way)]
    return Compiled(vocabulary, made, over_bytes, *min(ways, key=lambda one: len(one[0]), default=(None, b"")))


def _ends(grammar: Grammar, over_bytes: LLMatcher) -> list[bytes]:
    """Short complete answers: a guess from the rule itself, and the result of a search for a shorter one."""
    guess, keys = instance(grammar), _keys(grammar)
    known = [guess] if guess is not None and _is_answer(over_bytes, guess, keys) else []
    found = shortest(over_bytes, keys, FEW_STATES if known else STATES).end
    return known if found is None else [*known, found]


def _is_answer(over_bytes: LLMatcher, text: bytes, keys: Keys | None) -> bool:
    if keys is not None and keys.after(text) is None:
        return False
    tried = over_bytes.deep_copy()
    if not tried.consume_tokens(list(text)):
        return False
    return bool(tried.is_accepting() or tried.is_stopped())


@lru_cache(maxsize=1)
def _single_bytes() -> LLTokenizer:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


def _matcher(grammar: Grammar, vocabulary: LLTokenizer) -> LLMatcher:
    from llguidance import LLMatcher

    try:
        return LLMatcher(vocabulary, text_of(grammar), log_level=0, limits=limits())
    except ValueError as error:  # JSON nested too deeply
        raise refusal_of(grammar, str(error), searches=True) from error


def _keys(grammar: Grammar) -> Keys | None:
    """The initial key state for answers that are JSON or a tool call; None for other grammars."""
    return Keys() if grammar.kind == JSON_SCHEMA or (grammar.key == TOOLS and not grammar.prose_until) else None


def _tokens(vocabulary: LLTokenizer, text: bytes) -> tuple[int, ...] | None:
    """The text as tokens; None if the vocabulary cannot express it."""
    tokens = tuple(vocabulary.tokenize_bytes(text)) if text else ()
    return tokens if vocabulary.decode_bytes(list(tokens)) == text else None
