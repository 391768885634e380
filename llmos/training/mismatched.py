"""Mismatched answers: each prompt with the answer to the next one, on which KTO estimates its reference point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmos.tasks import Rendered
from llmos.tasks.sft_example import SFTExample, render_examples

if TYPE_CHECKING:
    from llmos.training.examples import Example
    from llmos.training.objectives.preferences import PreferenceTarget


def with_mismatched(examples: Sequence[Example[PreferenceTarget]], max_tokens: int) -> list[Example[PreferenceTarget]]:
    """The examples, each with one more answer: the first of the next example, as much of it as the model takes.

    One example alone has no other prompt's answer, and stays as it is.
    """
    if len(examples) < 2:
        return list(examples)
    return [_with_answer(one, examples[(i + 1) % len(examples)], max_tokens) for i, one in enumerate(examples)]


def _with_answer(
    one: Example[PreferenceTarget], other: Example[PreferenceTarget], max_tokens: int
) -> Example[PreferenceTarget]:
    rendered, answer = one.rendered, other.rendered
    if len(rendered.parts) > len(rendered.context):  # an encoder-decoder: the source, and the other's answer
        added = Rendered([], answer.context[:1], (rendered.parts[0], answer.parts[1]))
    else:
        prompt = _prompt_of(rendered.context[0])
        room = max_tokens + 1 - len(prompt)  # the last token is a target, and no part of the sequence
        if room < 1:
            return one
        added = render_examples([(prompt, answer.context[0].targets[:room])])
    joined = Rendered([], (*rendered.context, *added.context), (*rendered.parts, *added.parts))
    sizes = (*one.target.sizes, len(added.context[0].targets))
    return replace(one, rendered=joined, target=replace(one.target, sizes=sizes))


def _prompt_of(lesson: SFTExample) -> list[int]:
    return lesson.ids[: lesson.places[0] + 1]
