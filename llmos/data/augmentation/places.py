"""Places: where the words of a text stand, and which of them may be changed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from random import Random

from llmos.data.noise import HAN_SIGN, Edit, is_negation, move
from llmos.tasks.tag import split

Place = tuple[int, int]  # start and end in characters


def words_in(text: str) -> list[Place]:
    """The words of a text as the task tag splits them: in scripts without spaces, a letter with its marks is one."""
    return split(text)


def is_changeable(word: str) -> bool:
    """Whether a word may be left out, moved or replaced: it has letters or digits first, and negates nothing."""
    return word[0].isalnum() and not is_negation(word)


def is_unspaced(word: str) -> bool:
    """Whether it is a sign of Chinese or Japanese, between which no spaces stand."""
    return HAN_SIGN.match(word) is not None


def free_words(text: str, kept: Sequence[Place]) -> list[Place]:
    """The words that may be changed and touch no place that must stay."""
    free = [(start, end) for start, end in words_in(text) if is_changeable(text[start:end])]
    if not kept:
        return free
    ordered = sorted(kept)
    starts = [start for start, _ in ordered]
    last_ends: list[int] = []
    for _, end in ordered:
        last_ends.append(max(end, last_ends[-1] if last_ends else 0))
    return [(start, end) for start, end in free if not _touches(start, end, starts, last_ends)]


def _touches(start: int, end: int, starts: Sequence[int], last_ends: Sequence[int]) -> bool:
    before = bisect_left(starts, end)
    return before > 0 and last_ends[before - 1] > start


def how_many(count: int, strength: float) -> int:
    """The number of words to change, of this many: a share of them, at least one."""
    return min(count, max(1, round(count * strength)))


def draw(places: Sequence[Place], rng: Random, strength: float) -> list[Place]:
    """Some of the places by chance, in order."""
    chosen = rng.sample(range(len(places)), how_many(len(places), strength)) if places else []
    return [places[i] for i in sorted(chosen)]


def move_places(places: Sequence[Place], edits: Sequence[Edit]) -> list[Place]:
    """Where these places lie after the edits, as `move` says it of one; in time of their number, not its square."""
    starts, ends = [one.start for one in edits], [one.end for one in edits]
    shifts = [0]
    for one in edits:
        shifts.append(shifts[-1] + len(one.new) - (one.end - one.start))
    moved = []
    for start, end in places:
        first, after = bisect_right(ends, start), bisect_right(starts, end)
        new_start, new_end = move(start, end, edits[first:after])
        moved.append((new_start + shifts[first], new_end + shifts[first]))
    return moved
