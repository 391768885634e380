"""Predictions: a candidate over labelled rows, as label indexes with their probabilities. It judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from llmos.finetuning.candidate import Candidate
from llmos.finetuning.examples import Example, passes

TOKENS_AT_ONCE = 8192

Shares = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Predicted:
    """One example's probabilities: [labels], or for tags one row per word, [words, labels]; O where a word has none."""

    shares: Shares


def predict(
    candidate: Candidate,
    task: str,
    examples: Sequence[Example],
    *,
    many: bool = False,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Predicted]:
    """The examples' predictions in their order, computed in order of length."""
    lengths = [len(one.ids) for one in examples]
    found: list[Predicted | None] = [None] * len(examples)
    candidate.train(False)
    done = 0
    with torch.inference_mode():
        for part in passes(range(len(examples)), lengths, TOKENS_AT_ONCE):
            logits = candidate.logits([examples[i].ids for i in part])
            shares = (logits.sigmoid() if many else logits.softmax(-1)).cpu().numpy()
            start = 0
            for row, i in enumerate(part):
                if task == "tag":
                    here = shares[start : start + lengths[i]]
                    found[i] = Predicted(_by_word(here, examples[i].rendered.context.firsts))
                    start += lengths[i]
                else:
                    found[i] = Predicted(shares[row])
            done += len(part)
            on_done(done)
    return [one for one in found if one is not None]


def _by_word(shares: Shares, firsts: Sequence[int | None]) -> Shares:
    by_word = shares[[first or 0 for first in firsts]]
    lost = [i for i, first in enumerate(firsts) if first is None]
    if lost:
        by_word[lost] = 0.0
        by_word[lost, 0] = 1.0
    return by_word
