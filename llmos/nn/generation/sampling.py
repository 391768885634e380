"""Samples the next token from logits: temperature, top-k, top-p, min-p, penalties and a seed per request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmos.abi.error import BadInput
from llmos.nn.grammar.matcher import Matcher
from llmos.tasks.generate import Sampling

COLDEST = 1e-4  # a lower temperature would overflow: it is greedy, like 0
LEAST = -9999.0  # the lowest log-probability shown: JSON has no infinity
FEW = 512  # this many of the likeliest nearly always cover top_p; finding them costs far less than sorting all


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token and the likeliest alternatives, each with its log-probability."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """The sampler of one request: the same seed and logits give the same tokens, whatever else is in the batch.

    `scored` are the log-probabilities of the latest choice, before penalties, biases and temperature; None if the
    request does not ask for them.
    """

    def __init__(self, settings: Sampling, prompt: Sequence[int] = (), matcher: Matcher | None = None) -> None:
        self._settings = settings
        self._matcher = matcher
        self._left = settings.max_tokens
        self._random = torch.Generator()
        if settings.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(settings.seed)
        self._odds = Penalties(settings, prompt) if _shifts(settings) else None
        self.scored: TokenLogprob | None = None

    def choose(self, logits: Tensor) -> int:
        """Choose a token from its logits, [vocabulary]."""
        self._left -= 1
        scores = logits if self._odds is None else self._odds.apply(logits)
        token = self._choose(scores) if self._matcher is None else self._allowed_token(scores, self._matcher)
        if logits[token].isnan():  # argmax takes NaN for the highest
            raise _unusable()
        if self._odds is not None:
            self._odds.count(token)
        if self._settings.top_logprobs is not None:
            self.scored = score(logits, token, self._settings.top_logprobs)
        return token

    @property
    def is_whole(self) -> bool:
        """Whether the grammar allows nothing more."""
        return self._matcher is not None and self._matcher.is_whole

    @property
    def is_complete(self) -> bool:
        """Whether the tokens so far are a complete answer under the grammar."""
        return self._matcher is not None and self._matcher.is_complete

    @property
    def was_cut(self) -> bool:
        """Whether the answer was forced to its end because its token budget ran out."""
        return self._matcher is not None and self._matcher.was_cut

    def _allowed_token(self, scores: Tensor, matcher: Matcher) -> int:
        """A token that the grammar allows and that leaves enough tokens to complete the answer."""
        scores = matcher.mask(scores)
        # all -inf: the model's own constraints ban everything that the grammar allows
        while not bool(scores.isneginf().all()):
            token = self._choose(scores)
            if scores[token].isnan():
                raise _unusable()
            if (taken := matcher.take(token, self._left)) is not None:
                return taken
            scores[token] = -torch.inf
        return matcher.force()

    def _choose(self, scores: Tensor) -> int:
        return int(scores.argmax()) if self._settings.temperature < COLDEST else self._draw(scores.float().cpu())

    def _draw(self, scores: Tensor) -> int:
        shares, ids = _keep_likely(scores / self._settings.temperature, self._settings)
        sums = shares.double().cumsum(-1)
        at = torch.rand(1, generator=self._random, dtype=torch.float64) * sums[-1]
        place = int(torch.searchsorted(sums, at, right=True))
        if place == len(sums):  # only if the sum is NaN
            raise _unusable()
        return place if ids is None else int(ids[place])


class Penalties:
    """A request's changes of the logits: its biases, and penalties on earlier tokens."""

    def __init__(self, settings: Sampling, prompt: Sequence[int]) -> None:
        self._settings = settings
        self._made: dict[int, int] = {}  # chosen tokens and their counts
        self._seen = dict.fromkeys(prompt)  # tokens of prompt and answer; a dict keeps their order

    def apply(self, logits: Tensor) -> Tensor:
        """The logits with biases and penalties applied."""
        settings = self._settings
        scores = logits.to("cpu", torch.float32, copy=True)
        if settings.repetition_penalty != 1 and self._seen:
            ids = torch.tensor(list(self._seen))
            some, penalty = scores[ids], settings.repetition_penalty
            scores[ids] = torch.where(some > 0, some / penalty, some * penalty)
        if self._made:
            times = torch.tensor(list(self._made.values()))
            penalties = settings.presence_penalty + settings.frequency_penalty * times
            scores[torch.tensor(list(self._made))] -= penalties
        for token, bias in settings.logit_bias:
            scores[token] += bias
        return scores

    def count(self, token: int) -> None:
        """Count a chosen token."""
        self._made[token] = self._made.get(token, 0) + 1
        self._seen[token] = None


def check_biases(settings: Sampling, vocabulary: int) -> None:
    """Raise BadInput for a bias on a token outside the model's vocabulary."""
    for token, _ in settings.logit_bias:
        if token >= vocabulary:
            said = f"the model's tokens are 0 to {vocabulary - 1:,}"
            raise BadInput(f"logit_bias has the token {token:,}; {said}", key="logit_bias", token=token)


def _unusable() -> BadInput:
    return BadInput(
        "The model's scores for the next token are not numbers: its weights, or its adapter's, have NaN or infinity in "
        "them. Bring it in again (llmos pull), or train it again",
        reason="not_finite",
    )


def score(logits: Tensor, token: int, top: int) -> TokenLogprob:
    """The log-probability of a token, in float32, and of the `top` likeliest."""
    logprobs = logits.float().log_softmax(-1).clamp(min=LEAST)
    best, ids = logprobs.topk(min(top, len(logprobs)))
    return TokenLogprob(token, float(logprobs[token]), tuple(zip(ids.tolist(), best.tolist(), strict=True)))


def score_all(logits: Tensor, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
    """As `score`, for one token of each row of logits, [tokens, vocabulary]."""
    logprobs = logits.float().log_softmax(-1).clamp(min=LEAST)
    best, ids = logprobs.topk(min(top, logprobs.shape[-1]))
    chosen = logprobs.gather(-1, torch.tensor(tokens, device=logits.device).unsqueeze(-1)).squeeze(-1)
    rows = zip(tokens, chosen.tolist(), ids.tolist(), best.tolist(), strict=True)
    return [TokenLogprob(token, one, tuple(zip(found, likely, strict=True))) for token, one, found, likely in rows]


def _shifts(settings: Sampling) -> bool:
    penalties = (settings.presence_penalty, settings.frequency_penalty, settings.repetition_penalty - 1)
    return any(penalties) or bool(settings.logit_bias)


def _keep_likely(scores: Tensor, settings: Sampling) -> tuple[Tensor, Tensor | None]:
    """The probabilities of the tokens that may be sampled, and their ids; None for the ids if all tokens remain.

    Filters apply in this order: `top_k`, then `top_p` of those, then `min_p` relative to the likeliest.
    """
    ids: Tensor | None = None
    if 0 < settings.top_k < len(scores):
        scores, ids = scores.topk(settings.top_k)
    shares = scores.softmax(-1)
    if settings.top_p < 1:
        shares, places = _first(shares, settings.top_p)
        ids = places if ids is None else ids[places]
    if settings.min_p > 0:
        shares = shares.masked_fill(shares < settings.min_p * shares.max(), 0)
    return shares, ids


def _first(shares: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The fewest likeliest tokens whose probabilities reach `top_p`, at least one: probabilities and indices."""
    best, places = shares.topk(min(FEW, len(shares)))
    if len(best) < len(shares) and best.sum() < top_p:
        best, places = shares.sort(descending=True)
    enough = best.cumsum(-1) - best >= top_p  # the tokens before it reach top_p already
    enough[0] = False
    return best[~enough], places[~enough]
