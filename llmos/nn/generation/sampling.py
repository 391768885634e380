"""Samples the next token from logits: temperature, top-k, top-p, min-p, penalties and a seed per request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmos.abi.error import BadInput
from llmos.nn.grammar.matcher import Matcher
from llmos.tasks.generate import Sampling

COLDEST = 1e-4  # what is colder would only overflow: it takes the likeliest, as 0 does
LEAST = -9999.0  # JSON has no infinity
FEW = 512  # so many of the likeliest nearly always have top_p among them; finding them costs far less than sorting all


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was chosen and the likeliest that could have been, each with its log-probability."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """One request's choices: the same seed and logits give the same tokens, whoever else is being answered.

    `scored` is what the model thought of the latest choice, before penalties, biases and temperature; None where the
    request does not ask for it.
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
        """A token from its logits, [vocabulary]."""
        self._left -= 1
        scores = logits if self._odds is None else self._odds.apply(logits)
        token = self._choose(scores) if self._matcher is None else self._allowed_token(scores, self._matcher)
        if logits[token].isnan():  # what argmax takes for the highest
            raise _unusable()
        if self._odds is not None:
            self._odds.count(token)
        if self._settings.top_logprobs is not None:
            self.scored = score(logits, token, self._settings.top_logprobs)
        return token

    @property
    def is_whole(self) -> bool:
        """Whether a grammar lets nothing follow."""
        return self._matcher is not None and self._matcher.is_whole

    @property
    def is_complete(self) -> bool:
        """Whether what was chosen so far is an answer that its grammar allows."""
        return self._matcher is not None and self._matcher.is_complete

    @property
    def was_cut(self) -> bool:
        """Whether an answer that follows a grammar had to be ended early, for its tokens ran out."""
        return self._matcher is not None and self._matcher.was_cut

    def _allowed_token(self, scores: Tensor, matcher: Matcher) -> int:
        """A token that the grammar allows, and after which its end can be reached."""
        scores = matcher.mask(scores)
        while not bool(scores.isneginf().all()):  # which they are where the model's own rules bar all that is allowed
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
        if place == len(sums):  # only where the sum is no number
            raise _unusable()
        return place if ids is None else int(ids[place])


class Penalties:
    """What a request adds to the logits: its biases, and penalties on what was said before."""

    def __init__(self, settings: Sampling, prompt: Sequence[int]) -> None:
        self._settings = settings
        self._made: dict[int, int] = {}  # tokens chosen, and how often
        self._seen = dict.fromkeys(prompt)  # those of the prompt too, in a dict for its order

    def apply(self, logits: Tensor) -> Tensor:
        """The logits with all of that in them."""
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
        """This token was chosen."""
        self._made[token] = self._made.get(token, 0) + 1
        self._seen[token] = None


def check_biases(settings: Sampling, vocabulary: int) -> None:
    """BadInput for a bias on a token that the model does not have."""
    for token, _ in settings.logit_bias:
        if token >= vocabulary:
            said = f"the model's tokens are 0 to {vocabulary - 1:,}"
            raise BadInput(f"logit_bias has the token {token:,}; {said}", key="logit_bias", token=token)


def _unusable() -> BadInput:
    return BadInput(
        "The model's scores for the next token are not numbers: its weights, or its adapter's, have NaN or infinity in "
        "them. Bring it in again (llmos pull), or train it again"
    )


def score(logits: Tensor, token: int, top: int) -> TokenLogprob:
    """A token's log-probability in float32, and those of the `top` likeliest."""
    logprobs = logits.float().log_softmax(-1).clamp(min=LEAST)
    best, ids = logprobs.topk(min(top, len(logprobs)))
    return TokenLogprob(token, float(logprobs[token]), tuple(zip(ids.tolist(), best.tolist(), strict=True)))


def _shifts(settings: Sampling) -> bool:
    penalties = (settings.presence_penalty, settings.frequency_penalty, settings.repetition_penalty - 1)
    return any(penalties) or bool(settings.logit_bias)


def _keep_likely(scores: Tensor, settings: Sampling) -> tuple[Tensor, Tensor | None]:
    """The shares of the tokens that may be chosen, and which tokens these are where it is not all of them.

    First the `top_k` likeliest, of those the first that together have `top_p`, of those the ones that have `min_p`
    of the likeliest's share.
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
    """The likeliest that together have `top_p`, never none: their shares and places, best first."""
    best, places = shares.topk(min(FEW, len(shares)))
    if len(best) < len(shares) and best.sum() < top_p:
        best, places = shares.sort(descending=True)
    enough = best.cumsum(-1) - best >= top_p  # what comes before a token already is enough
    enough[0] = False
    return best[~enough], places[~enough]
