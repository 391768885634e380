"""Prompts of generation: beginnings of real texts, of so many tokens each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from bench.stop import Stop
from llmos.nn.text.tokenizer import FastTokenizer

TOKENS = (50, 150)  # of a prompt: from, to


def with_long_answers(
    texts: Sequence[str], tokenizer: FastTokenizer, tokens: int, most: int, lengths_of: Callable[[list[str]], list[int]]
) -> list[str]:
    """So many prompts of ragged lengths whose answers, by the tokens that `lengths_of` says, do not end before."""
    drawn = random.Random(7)
    ids = [token for one in tokenizer.encode([f"{text} " for text in texts]) for token in one.ids]
    chosen: list[str] = []
    while len(chosen) < most and len(ids) > TOKENS[1] * most:
        some = []
        for _ in range(most + 4):  # a few are continued for less
            length = drawn.randint(*TOKENS)
            some.append(tokenizer.decode(ids[:length]))
            ids = ids[length:]
        chosen += [text for text, made in zip(some, lengths_of(some), strict=True) if made >= tokens]
    if len(chosen) < most:
        raise Stop(f"Only {len(chosen)} texts are continued for {tokens} tokens. Ask for fewer (--texts)")
    return chosen[:most]


def token_count(texts: Sequence[str], tokenizer: FastTokenizer) -> int:
    """The tokens of all of them."""
    return sum(len(one.ids) for one in tokenizer.encode(list(texts)))


def long(prompts: Sequence[str], tokenizer: FastTokenizer, tokens: int, seed: int) -> str:
    """A text of about so many tokens, another one for each seed."""
    words = " ".join(random.Random(seed).sample(list(prompts), len(prompts)))
    return tokenizer.decode(tokenizer.encode([words])[0].ids[:tokens])
