"""How likely a model finds each label, by the tokens of its answer and those that it chose them among.

An answer is a walk down the tree of all labels, a token at a time. At each step the tokens that were not taken lead to
other labels, and their probabilities are those labels'.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

SIGNS = " \t\r\n.,;:!\"'`*"  # that may stand around a label
LEAST = 1e-6  # the share of a label that no token led to

Tokens = Sequence[tuple[str, float, Mapping[str, float]]]


def plain_label(text: str) -> str:
    """A label as it may be answered: in any case, in quotes or with a full stop."""
    return " ".join(text.casefold().removeprefix("label:").strip(SIGNS).split())


def label_in(answer: str, labels: Sequence[str]) -> int | None:
    """Which label an answer is, as a text or as an object with the field `label`; None if it is none."""
    said = plain_label(_value(answer))
    return next((i for i, label in enumerate(labels) if plain_label(label) == said), None)


def label_shares(answer: str, tokens: Tokens, labels: Sequence[str]) -> list[float] | None:
    """How likely each label is among all; None for an answer that is no label. They sum to 1.

    Without tokens, the answered label has it all.
    """
    chosen = label_in(answer, labels)
    if chosen is None:
        return None
    shares = [0.0] * len(labels)
    plain = [plain_label(label) for label in labels]
    written = "".join(token for token, _, _ in tokens)
    folded = written.casefold()
    at = folded.rfind(plain[chosen]) if len(folded) == len(written) else -1
    if at >= 0:
        _walk(tokens, at, plain, chosen, shares)
    if (total := sum(shares)) <= 0:
        return [float(i == chosen) for i in range(len(labels))]
    floored = [max(one / total, LEAST) for one in shares]
    return [one / sum(floored) for one in floored]


def _walk(tokens: Tokens, start: int, plain: Sequence[str], chosen: int, shares: list[float]) -> None:
    """Add to `shares` what the tokens from this character on give each label."""
    begin, before, chain = 0, "", 1.0
    alive = set(range(len(plain)))
    for token, logprob, among in tokens:
        end = begin + len(token)
        if end > start and len(alive) > 1:
            lead = token[: max(0, start - begin)]
            for other, theirs in among.items():
                if other != token:
                    _give(shares, _led_to(before + _behind(other, lead), plain, alive), chain * math.exp(theirs))
            chain *= math.exp(logprob)
            before += token[len(lead) :].casefold()
            alive &= _led_to(before, plain, alive) | {chosen}
        begin = end
    shares[chosen] += chain


def _behind(token: str, lead: str) -> str:
    """A token without the signs that stand before the label in the one that was taken."""
    return (token[len(lead) :] if token.startswith(lead) else token.lstrip(SIGNS)).casefold()


def _led_to(written: str, plain: Sequence[str], alive: set[int]) -> set[int]:
    """The labels that what is written may still become, or has become with a sign behind it."""
    if not written.strip(SIGNS):
        return set()
    ended = written.rstrip(SIGNS + "}]")
    return {i for i in alive if plain[i].startswith(written) or (ended != written and plain[i] == ended)}


def _give(shares: list[float], labels: set[int], probability: float) -> None:
    for i in labels:
        shares[i] += probability / len(labels)


def _value(answer: str) -> str:
    """The field `label` of an answer that is an object, else the answer."""
    try:
        read = json.loads(answer)
    except ValueError:
        return answer
    return str(read["label"]) if isinstance(read, dict) and "label" in read else answer
