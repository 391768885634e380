"""Predictions of a candidate on labelled rows, as probabilities or scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmos.abi.json_type import Json
from llmos.nn.next_token import NextHead
from llmos.tasks import Settings
from llmos.tasks import task as task_of
from llmos.training.candidate import Candidate
from llmos.training.examples import Example, passes
from llmos.training.objectives import supervised_tokens

TOKENS_AT_ONCE = 8192

Shares = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Predicted:
    """One example's probabilities: [labels], or for tags one row per word, [words, labels]; O where a word has none.

    Of two texts: [1], their score. Of a question: [2], its answer's score and that of none, with the answer as served.
    Of a text that is to be written: [2], what it costs and how many tokens it has, with what is written instead.
    """

    shares: Shares
    answer: Json = None


def predict(
    candidate: Candidate,
    task: str,
    examples: Sequence[Example],
    settings: Settings,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Predicted]:
    """The examples' predictions in their order, computed in order of length."""
    sizes = [one.size for one in examples]
    found: list[Predicted | None] = [None] * len(examples)
    candidate.train(False)
    done = 0
    with torch.inference_mode():
        for part in passes(range(len(examples)), sizes, TOKENS_AT_ONCE):
            some = [examples[i] for i in part]
            given = candidate.logits([ids for one in some for ids in one.sequences])
            for i, one in zip(part, _read(candidate.head, task, some, given, settings), strict=True):
                found[i] = one
            done += len(part)
            on_done(done)
    return [one for one in found if one is not None]


def _read(
    head: object, task: str, examples: Sequence[Example], given: Tensor, settings: Settings
) -> Iterator[Predicted]:
    """What the candidate gave for these examples, one by one."""
    if isinstance(head, NextHead):
        counts = [len(one.target) if isinstance(one.target, list) else 1 for one in examples]
        for costs in torch.split(head.losses(*supervised_tokens(given, examples)).cpu(), counts):
            yield Predicted(np.array([float(costs.double().sum()), len(costs)], dtype=np.float32))
        return
    match task:
        case "tag":
            shares = given.softmax(-1).cpu().numpy()
            start = 0
            for one in examples:
                yield Predicted(_by_word(shares[start : start + one.size], one.rendered.context.firsts))
                start += one.size
        case "answer":
            windows = iter(torch.split(given.cpu(), [len(ids) for one in examples for ids in one.sequences]))
            for one in examples:
                raw = [next(windows).tolist() for _ in one.sequences]
                found = task_of(task).parse(raw, one.rendered, settings, {})
                yield Predicted(np.array([found["score"], found["no_answer"]], dtype=np.float32), found)
        case "similarity":
            yield from map(Predicted, (given[0::2] * given[1::2]).sum(-1, keepdim=True).cpu().numpy())
        case "rerank":
            yield from map(Predicted, given.sigmoid().cpu().numpy())
        case _:
            many = bool(settings.options.get("multi_label", False))
            yield from map(Predicted, (given.sigmoid() if many else given.softmax(-1)).cpu().numpy())


def _by_word(shares: Shares, firsts: Sequence[int | None]) -> Shares:
    by_word = shares[[first or 0 for first in firsts]]
    lost = [i for i, first in enumerate(firsts) if first is None]
    if lost:
        by_word[lost] = 0.0
        by_word[lost, 0] = 1.0
    return by_word
