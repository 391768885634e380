"""Speed of forward passes on one core, in CPU time: other work on the machine does not count, and models take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

ROUNDS = 3

Passes = tuple[Callable[[], object], int]


def tokens_per_second(runs: Mapping[str, Passes], rounds: int = ROUNDS) -> dict[str, float]:
    """Tokens per CPU second of one core, by name: each run computes so many tokens; the best of some rounds by turns,
    after one that does not count."""
    best: dict[str, float] = {}
    with _one_thread(), torch.inference_mode():
        for turn in range(rounds + 1):
            for name, (compute, tokens) in runs.items():
                began = time.thread_time()
                compute()
                rate = tokens / max(time.thread_time() - began, 1e-9)
                if turn:
                    best[name] = max(best.get(name, 0.0), rate)
    return best


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch computes in the calling thread, whose time is measured."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
