"""One sequence being generated: prefill and decode positions, text released so far, stop texts and the end.

It holds no keys and values: whoever computes reports with `skip` what is cached, and with `again` that the cache is
lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from llmos.abi.error import BadInput, TooLong
from llmos.abi.json_type import Json
from llmos.nn.generation.echo import Echo
from llmos.nn.generation.generation_constraints import GenerationConstraints
from llmos.nn.generation.logprobs import Logprobs
from llmos.nn.generation.sampling import Sampler, check_biases
from llmos.nn.grammar.matcher import matcher
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.tasks.generate import Sampling

STOP, LENGTH = "stop", "length"


class Generation:
    """Prefill, then decode: compute what `next_ids` gives and call `advance`, until `finish_reason` is set."""

    def __init__(
        self,
        prompt: Sequence[int],
        settings: Sampling,
        tokenizer: FastTokenizer,
        ends: frozenset[int],
        room: int,
        rules: GenerationConstraints | None = None,
        echo: Echo | None = None,
    ) -> None:
        """`echo` is the end of the prompt that the text begins with, if the settings ask for it."""
        if len(prompt) + settings.max_tokens > room:
            what, way_out = "prompt", "Shorten the prompt or ask for fewer"
            if rules is not None:
                what, way_out = "opening of an answer", "Ask for fewer"
            raise TooLong(
                f"The {what} has {len(prompt):,} tokens and max_tokens asks for {settings.max_tokens:,} more; "
                f"the model takes {room:,} in all. {way_out}",
                size=len(prompt) + settings.max_tokens,
                limit=room,
            )
        self.made: list[int] = []
        self.text = ""
        self.finish_reason: str | None = None
        self._ids = list(prompt)  # prompt and answer
        self._done = 0  # tokens computed so far
        self._settings = settings
        check_biases(settings, tokenizer.size)
        rule = matcher(settings.grammar, tokenizer, ends)
        if rule is not None and rule.least > settings.max_tokens:
            raise too_few(settings.max_tokens, rule.least)
        self._sampler = Sampler(settings, [token for token in prompt if token >= 0], rule)
        self._logprobs = Logprobs(tokenizer)
        self._rules = None if rules is None else replace(rules, begun=len(prompt))
        self._text = tokenizer.stream()
        self._ends = ends
        self._held = StopBuffer(settings.stop)
        self._echo = echo
        self._echo_start = 0 if echo is None else len(prompt) - echo.size
        self._echoed: list[Json] = []  # entries that were not said yet

    @property
    def cacheable(self) -> Sequence[int]:
        """The tokens that need no computing if they are in the KV cache: all, but for those still to be scored."""
        return (
            self._ids
            if self._echo is None or not self._echo.remaining
            else self._ids[: self._echo_start + self._echo.scored_count]
        )

    def logits_of(self, count: int) -> int:
        """After how many of the next `count` tokens the logits are needed: the last, or all while they are scored."""
        return count if self._echo is not None and self._echo.remaining else 1

    @property
    def ids(self) -> Sequence[int]:
        """The tokens of prompt and answer so far; the last one is always still to compute."""
        return self._ids

    @property
    def tokens_left(self) -> int:
        """Tokens to compute before the next one can be chosen: more than 1 during prefill, 1 during decode."""
        return len(self._ids) - self._done

    @property
    def has_logprobs(self) -> bool:
        return self._settings.top_logprobs is not None

    @property
    def stop(self) -> str | None:
        """The stop string that ended the answer, if one did."""
        return self._held.found

    def next_ids(self, most: int) -> list[int]:
        """The next tokens to compute, at most `most`: a prompt may be cut into chunks (chunked prefill)."""
        return self._ids[self._done : self._done + most]

    def skip(self, count: int) -> None:
        """Mark the next `count` tokens as computed: they are in the KV cache and need no prefill."""
        left = self.tokens_left
        assert count < left, f"{count} of {left} tokens skipped: the last one's logits are needed"
        self._done += count

    def again(self) -> None:
        """Start prefill again, because the sequence's part of the KV cache was freed."""
        self._done = 0

    def advance(self, count: int, logits: Tensor) -> str:
        """Record that `count` tokens were computed, with the last one's logits, [vocabulary], or those of `logits_of`
        last ones, [tokens, vocabulary]; returns text that is now final."""
        rows = logits if logits.dim() > 1 else logits.unsqueeze(0)
        if self._echo is not None and self._echo.remaining:
            self._echo.score(self._done + count - len(rows) - self._echo_start, rows)
        self._done += count
        if self.tokens_left:
            return ""
        said = self._repeat()
        self.text += said
        made = self._end_at_once() if not self._settings.max_tokens else self._choose(rows[-1])
        self.text += made
        return said + made

    def _choose(self, logits: Tensor) -> str:
        return self._take(self._sampler.choose(self._allow(logits)))

    def _repeat(self) -> str:
        """The prompt's text, when all of it has been computed for the first time."""
        if self._echo is None:
            return ""
        echo, self._echo = self._echo, None
        self._echoed = echo.entries() if self.has_logprobs else []
        return echo.text

    def _end_at_once(self) -> str:
        """The end of an answer that may have no token of its own."""
        self.finish_reason = LENGTH
        return ""

    def logprobs(self) -> list[Json]:
        """Log-probabilities of the tokens whose text was released since the last call."""
        is_all = self.finish_reason is not None and not self._held.is_stopped
        echoed, self._echoed = self._echoed, []
        return echoed + self._logprobs.entries_up_to(len(self.text), is_all=is_all)

    def _allow(self, logits: Tensor) -> Tensor:
        return logits if self._rules is None else self._rules.apply(logits, self._ids)

    def _take(self, token: int) -> str:
        self.made.append(token)
        if token in self._ends:
            return self._finish(self._end_reason())
        self._logprobs.add(self._sampler.scored, len(self.text) + self._held.size)
        said = self._held.push(self._text.push(token))
        if self._held.is_stopped:
            self.finish_reason = STOP
            return said
        if self._sampler.is_whole:
            return said + self._finish(STOP)
        if len(self.made) >= self._settings.max_tokens:
            return said + self._finish(STOP if self._sampler.is_complete else LENGTH)
        self._ids.append(token)
        return said

    def _end_reason(self) -> str:
        """The finish reason of an answer whose end token was chosen or forced."""
        return LENGTH if self._sampler.was_cut and not self._sampler.is_complete else STOP

    def _finish(self, reason: str) -> str:
        said = self._held.push(self._text.flush()) + self._held.flush()
        self.finish_reason = STOP if self._held.is_stopped else reason
        return said


def too_few(asked: int, least: int) -> BadInput:
    """The error if `max_tokens` is below the shortest answer that the grammar allows."""
    said = (
        f"max_tokens is {asked:,}; the shortest answer that the rule allows has {least:,} tokens. Ask for at least that"
    )
    return BadInput(said, key="max_tokens", least=least)


class StopBuffer:
    """Holds text back while it may be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._waiting = ""
        self.found: str | None = None  # the stop string that ended the text

    @property
    def is_stopped(self) -> bool:
        return self.found is not None

    @property
    def size(self) -> int:
        """The number of characters held back."""
        return len(self._waiting)

    def push(self, piece: str) -> str:
        """The text that can be released after this piece; nothing from a stop string on."""
        if self.is_stopped:
            return ""
        self._waiting += piece
        found = [(at, stop) for stop in self._stops if (at := self._waiting.find(stop)) >= 0]
        if found:
            at, self.found = min(found)
            said, self._waiting = self._waiting[:at], ""
            return said
        keep = max((_overlap(self._waiting, stop) for stop in self._stops), default=0)
        cut = len(self._waiting) - keep
        said, self._waiting = self._waiting[:cut], self._waiting[cut:]
        return said

    def flush(self) -> str:
        said, self._waiting = self._waiting, ""
        return said


def _overlap(text: str, stop: str) -> int:
    """The number of characters at the end of the text that are the beginning of the stop string."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
