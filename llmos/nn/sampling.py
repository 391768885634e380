"""Choosing the next token from logits, each request with its own randomness."""

from __future__ import annotations

import torch
from torch import Tensor

from llmos.tasks.generate import Sampling


class Sampler:
    """One request's choices: the same seed and logits give the same tokens, whoever else is being answered."""

    def __init__(self, settings: Sampling) -> None:
        self._settings = settings
        self._random = torch.Generator()
        if settings.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(settings.seed)

    def choose(self, logits: Tensor) -> int:
        """A token from its logits, [vocabulary]."""
        settings = self._settings
        if settings.temperature == 0:
            return int(logits.argmax())
        kept = _most_likely(logits.float().cpu() / settings.temperature, settings.top_k, settings.top_p)
        return int(torch.multinomial(kept.softmax(-1), 1, generator=self._random))


def _most_likely(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """The logits with all but the `top_k` best, then all beyond the first `top_p` of probability, ruled out."""
    if 0 < top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)
    if top_p < 1:
        ordered, places = logits.sort(descending=True)
        shares = ordered.softmax(-1)
        beyond = shares.cumsum(-1) - shares >= top_p  # what comes before a token already is enough
        beyond[0] = False
        logits = logits.index_fill(0, places[beyond], -torch.inf)
    return logits
