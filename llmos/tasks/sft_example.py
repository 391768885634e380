"""A supervised fine-tuning example: the tokens of a prompt and answer, and which of them are targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.tasks import Rendered, Settings, TrainingTokenizer
from llmos.tasks.text import limit_of, too_long


@dataclass(frozen=True, slots=True)
class SFTExample:
    """One sequence.

    At each of `places` the next token is learned: that of `targets`. All other tokens are only read.
    """

    ids: list[int]
    places: list[int]
    targets: list[int]


def close_answer(ids: Sequence[int], tokenizer: TrainingTokenizer) -> list[int]:
    """An answer's tokens up to and including the one that ends it, because a model must learn to stop."""
    for i, one in enumerate(ids):
        if one in tokenizer.ends:
            return list(ids[: i + 1])
    if tokenizer.end_id is None:
        raise BadInput("The base names no token that ends an answer (eos_token), so it cannot learn where to stop")
    return [*ids, tokenizer.end_id]


def continue_answer(
    before: str, said: str, prompt: Sequence[int], tokenizer: TrainingTokenizer, *, special: bool
) -> list[int]:
    """The tokens of `said` after the prompt, whose text is `before`, tokenized as one text."""
    (whole,) = tokenizer.encode([before + said], special=special)
    if whole.ids[: len(prompt)] == list(prompt):
        return close_answer(whole.ids[len(prompt) :], tokenizer)
    (alone,) = tokenizer.encode([said], special=False)
    return close_answer(alone.ids, tokenizer)


def room_for(answer: Sequence[int], settings: Settings) -> int:
    """The most tokens of a prompt before this answer."""
    room = limit_of(settings) - len(answer)
    if room < 1:
        raise too_long("The answer", len(answer), limit_of(settings) - 1, settings)
    return room


def render_examples(turns: Iterable[tuple[list[int], list[int]]]) -> Rendered:
    """Prompts with their answers as SFT examples. A prompt that continues the last one stays in the same example."""
    lessons: list[SFTExample] = []
    whole: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    for prompt, answer in turns:
        if whole and prompt[: len(whole)] != whole:
            lessons.append(SFTExample(whole[:-1], places, targets))
            places, targets = [], []
        whole = prompt + answer
        places = [*places, *range(len(prompt) - 1, len(whole) - 1)]
        targets = [*targets, *answer]
    lessons.append(SFTExample(whole[:-1], places, targets))
    return Rendered([], tuple(lessons), tuple(one.ids for one in lessons))
