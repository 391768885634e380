"""The shortest completion of a constrained answer, by search over bytes.

It is a beam search: of all continuations of each length it keeps a few. The completion it finds is valid, and nearly
always the shortest.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from llmos.nn.grammar.keys import Keys

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_BYTES = 1 << 15  # no longer completion is searched for
SAME = 2  # the number of continuations followed per state: equal length and equal next bytes
FEW = 16  # if at most this many bytes may come, all are tried; of more, this many
TRIED = b'a0A.@-:/_ "TZ1,+=()[]{}\n'  # the bytes tried first where many may come: they complete an answer most often
BETWEEN = b',:{[ "'  # a string or another value may begin next
BEYOND_ASCII = 0x80  # where single-byte letters may come, multi-byte ones are not tried
QUOTE, CLOSING, COMMA = ord('"'), frozenset(b"}]"), ord(",")


@dataclass(frozen=True, slots=True)
class Found:
    """A completion, or None. `is_over` means that the search was given up at its limit."""

    end: bytes | None
    is_over: bool = False


def shortest(matcher: LLMatcher, keys: Keys | None, states: int) -> Found:
    """A shortest completion from this state of a byte-level matcher, after at most this many states.

    With `keys`, the text is JSON: strings and containers are closed as early as possible, and no key comes twice.
    """
    order = count()
    waiting = [Node(0, next(order), b"", matcher.deep_copy(), keys)]
    seen: Counter[tuple[int, bytes, Keys | None, int]] = Counter()
    closed: set[int] = set()  # strings whose shortest completion is known
    while states > 0:
        if not waiting:
            return Found(None)
        node = heapq.heappop(waiting)
        if node.string in closed:
            continue
        if node.state.is_accepting() or node.state.is_stopped():
            return Found(node.said)
        if node.size >= MAX_BYTES:
            break
        if node.string and node.keys is not None and node.keys.string is None:
            closed.add(node.string)
        for ahead in _after(node, order):
            states -= 1
            is_between = ahead.keys is not None and ahead.keys.string is None and ahead.said[-1] in BETWEEN
            sign = (
                -ahead.parts if is_between else ahead.size,
                ahead.state.compute_bitmask(),
                _shape(ahead.keys),
                ahead.string,
            )
            seen[sign] += 1
            if seen[sign] <= SAME:
                heapq.heappush(waiting, ahead)
    return Found(None, is_over=True)


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A continuation. `string` numbers the JSON string that it is in or has just closed; 0 for a key and outside of
    strings.

    What comes after a string does not depend on the string's content. `parts` counts commas, colons and brackets
    outside of strings: among continuations with equal counts the shortest is followed first.
    """

    size: int
    place: int
    said: bytes = field(compare=False)
    state: LLMatcher = field(compare=False)
    keys: Keys | None = field(compare=False)
    string: int = field(default=0, compare=False)
    parts: int = field(default=0, compare=False)


def _after(node: Node, order: Iterator[int]) -> Iterator[Node]:
    """The continuations that extend this one."""
    for more in _next(node.state, node.keys):
        keys = None if node.keys is None else node.keys.after(more)
        if node.keys is not None and keys is None:
            continue
        state = node.state.deep_copy()
        if state.consume_tokens(list(more)):
            place = next(order)
            is_text = node.keys is None or node.keys.string is not None
            parts = node.parts + (0 if is_text else sum(more.count(one) for one in (b",", b":", b"{", b"[")))
            yield Node(node.size + len(more), place, node.said + more, state, keys, _string(node, keys, place), parts)


def _string(node: Node, keys: Keys | None, place: int) -> int:
    was_in = node.keys is not None and node.keys.string is not None and not node.keys.is_key
    is_in = keys is not None and keys.string is not None and not keys.is_key
    if was_in:
        return node.string or (place if is_in else 0)
    return place if is_in else 0


def _next(state: LLMatcher, keys: Keys | None) -> Iterator[bytes]:
    """The bytes that may come next: forced bytes up to the next quote, or else single bytes, closing ones first."""
    if forced := bytes(state.compute_ff_bytes()):
        before, quote, _ = forced.partition(b'"')
        yield forced if keys is None else before + quote
        return
    mask = state.compute_bitmask()
    if state.is_error():
        return
    allowed = [byte for byte in range(min(256, 8 * len(mask))) if mask[byte >> 3] >> (byte & 7) & 1]
    yield from (bytes((byte,)) for byte in _worth(allowed, keys))


def _worth(allowed: list[int], keys: Keys | None) -> list[int]:
    """The bytes that are tried, out of those allowed."""
    may = set(allowed)
    if keys is not None and keys.string is not None and QUOTE in may and not keys.is_key:
        return [QUOTE]
    if keys is not None and keys.string is None and keys.opened:
        if closing := may & CLOSING:
            return sorted(closing)
        if COMMA in may:
            return [COMMA]
    first = [byte for byte in TRIED if byte in may]
    rest = [byte for byte in allowed if byte not in TRIED and (not first or byte < BEYOND_ASCII)]
    return [*first, *(rest if len(allowed) <= FEW else rest[: max(0, FEW - len(first))])]


def _shape(keys: Keys | None) -> Keys | None:
    """The part of the keys' state that decides the length of a completion."""
    if keys is None:
        return None
    opened: tuple[frozenset[str] | None, ...] = tuple(None if one is None else frozenset() for one in keys.opened)
    return Keys(opened, None if keys.string is None else b"", keys.is_escaped, keys.is_key, keys.awaits_key)
