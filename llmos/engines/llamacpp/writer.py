"""Translates calls to llama.cpp's requests, and its responses to deltas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmos.abi.capability import BYTE_LEVEL
from llmos.abi.error import BadInput, Unavailable
from llmos.abi.json_type import Json
from llmos.engines.external_generation import Delta, Leg
from llmos.engines.llamacpp.header import Header
from llmos.engines.llamacpp.place import Place
from llmos.engines.llamacpp.rule import LlamaCppRule
from llmos.engines.llamacpp.tokenizer import ServedTokenizer
from llmos.tasks.generate import Sampling
from llmos.tasks.grammar import Grammar

# the order of all our samplers: temperature before the filters
ORDER = ["penalties", "temperature", "top_k", "top_p", "min_p"]
RANDOM = 0xFFFFFFFF  # llama.cpp's value for no seed
REFUSALS = {"invalid_request_error", "exceed_context_size_error"}


class LlamaCpp:
    """Implements external_generation.Writer."""

    def __init__(
        self,
        server: Any,  # Any: xllamacpp.Server, a compiled class without types
        place: Place,
        tokenizer: ServedTokenizer,
        slots: int,
        room: int,
        capacity: int,
        header: Header,
    ) -> None:
        self.tokenizer = tokenizer
        self.slots, self.room, self.capacity = slots, room, capacity
        self.vocabulary = header.vocabulary
        self._keeps_rules = header.entries.get("tokenizer.ggml.model") == BYTE_LEVEL
        self._server = server
        self._place = place

    def write(self, leg: Leg, say: Callable[[Delta], None]) -> None:
        rule = None if leg.settings.grammar is None else self._rule(leg.settings.grammar)
        heard = LlamaCppEvent(leg, say, rule)
        self._server.handle_completions(body_of(leg.ids, leg.settings, leg.salt, rule), heard)
        heard.end()

    def check(self, settings: Sampling) -> None:
        if settings.grammar is not None:
            self._rule(settings.grammar)

    def _rule(self, grammar: Grammar) -> LlamaCppRule:
        if not self._keeps_rules:
            raise BadInput(
                f"llama.cpp keeps to no {grammar.param} with the vocabulary of this file: it loses spaces "
                "of SentencePiece. Ask another engine: pytorch",
                key=grammar.param,
            )
        return LlamaCppRule(grammar)

    def close(self) -> None:
        self.tokenizer.close()
        self._server = None
        self._place.close()


class LlamaCppEvent:
    """Receives the events of one answer in llama.cpp's thread; returning True ends the answer."""

    def __init__(self, leg: Leg, say: Callable[[Delta], None], rule: LlamaCppRule | None) -> None:
        self._leg, self._say, self._rule = leg, say, rule
        self._text = ""
        self._reason: str | None = None
        self._made = 0
        self._refused: Json = None
        self._scored: list[Json] = []

    def __call__(self, event: Json) -> bool:
        if self._leg.is_over:
            return True
        if "error" in event or "code" in event:
            self._refused = event.get("error", event)
            return True
        for choice in event.get("choices", ()):
            self._took(choice)
        self._made = int((event.get("usage") or {}).get("completion_tokens", self._made))
        return False

    def end(self) -> None:
        """The stream ended: send the last piece, or the fault."""
        if self._leg.is_over:
            return
        if self._refused is not None:
            raise _refusal(self._refused)
        if self._reason is None:
            raise Unavailable("llama.cpp ended the answer before it was complete. Send it again", reason="cut")
        if self._rule is not None:
            self._rule.check(self._text, is_whole=self._reason == "stop" and not self._leg.settings.stop)
        self._say(Delta("", self._reason, tuple(self._scored), self._made))

    def _took(self, choice: Json) -> None:
        self._reason = choice.get("finish_reason") or self._reason
        self._scored += [self._entry(one) for one in (choice.get("logprobs") or {}).get("content") or ()]
        if choice.get("text"):
            self._text += choice["text"]
            self._say(Delta(choice["text"], None, tuple(self._scored)))
            self._scored = []

    def _entry(self, scored: Json) -> Json:
        top = scored.get("top_logprobs", [])[: self._leg.settings.top_logprobs or 0]
        return {**_format_error(scored), "top_logprobs": [_format_error(one) for one in top]}


def body_of(ids: list[int], settings: Sampling, salt: str, rule: LlamaCppRule | None = None) -> Json:
    """One answer's request in llama.cpp's format."""
    body: Json = {
        "prompt": ids,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # an event after each prefill pass, at which a cancelled answer ends
        "cache_prompt": not salt,  # reuse a slot with the same prefix, also of another client
        "n_predict": settings.max_tokens,
        "samplers": ORDER,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": settings.top_k,
        "min_p": settings.min_p,
        "repeat_penalty": settings.repetition_penalty,
        "presence_penalty": settings.presence_penalty,
        "frequency_penalty": settings.frequency_penalty,
        "repeat_last_n": len(ids) + settings.max_tokens,
        "seed": RANDOM if settings.seed is None else settings.seed % RANDOM,
        "stop": list(settings.stop),
        "logit_bias": [list(one) for one in settings.logit_bias],
    }
    if settings.top_logprobs is not None:
        body["logprobs"] = max(settings.top_logprobs, 1)
    if rule is not None:
        body["grammar"] = rule.as_llguidance
    return body


def _format_error(scored: Json) -> Json:
    return {"token": scored["token"], "bytes": scored.get("bytes") or [], "logprob": scored["logprob"]}


def _refusal(error: Json) -> Exception:
    message = str(error.get("message", error))[:400]
    if error.get("type") in REFUSALS:
        return BadInput(f"llama.cpp refuses this: {message}")
    return Unavailable(f"llama.cpp could not answer: {message}. Send it again")
