"""Examples: rows as token ids with targets, rendered as in serving; and the batches of an epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.error import TooLong
from llmos.data.row import Answers, Row, WrittenText
from llmos.data.table import bad_row
from llmos.tasks import GENERATIVE, Rendered, Settings, TrainingTokenizer, writer
from llmos.tasks import task as task_of
from llmos.tasks.answer import NOWHERE, place_in

IGNORED = -100  # the target of a token that carries no label
RENDERED_AT_ONCE = 1024
WINDOW_BATCHES = 16  # batches are cut out of this many at a time, sorted by length


@dataclass(frozen=True, slots=True)
class Example:
    """One row as the forward pass takes it, in one sequence or several.

    Targets: one label's index, one per token, the indexes of all given; for two texts a number with 1 as the best; for
    a question where its answer starts and ends in each window. What is to be written is in its lessons, the context.
    """

    ids: list[int]
    target: int | float | list[int]
    rendered: Rendered

    @property
    def sequences(self) -> tuple[list[int], ...]:
        return self.rendered.sequences

    @property
    def size(self) -> int:
        """Tokens, over all its sequences."""
        return self.rendered.size


def make_examples(task: str, rows: Sequence[Row], tokenizer: TrainingTokenizer, settings: Settings) -> list[Example]:
    """One example per row, in order; BadRow at the first that is longer than the model takes."""
    index = {label: i for i, label in enumerate(settings.labels)}
    examples: list[Example] = []
    for start in range(0, len(rows), RENDERED_AT_ONCE):
        part = rows[start : start + RENDERED_AT_ONCE]
        examples += [
            Example(rendered.ids, _target(task, row, rendered, index, settings), rendered)
            for row, rendered in zip(part, _render_rows(task, part, tokenizer, settings), strict=True)
        ]
    return examples


def _render_rows(task: str, rows: Sequence[Row], tokenizer: TrainingTokenizer, settings: Settings) -> list[Rendered]:
    if task in GENERATIVE:
        return [_render_one(task, row, tokenizer, settings) for row in rows]
    render = task_of(task).render
    try:
        return render([row.input for row in rows], tokenizer, settings)
    except TooLong:
        return [_render_one(task, row, tokenizer, settings) for row in rows]


def _render_one(task: str, row: Row, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
    try:
        if isinstance(row.label, WrittenText):
            return writer(task).teach(row.input, row.label.answer, tokenizer, settings)
        return task_of(task).render([row.input], tokenizer, settings)[0]
    except TooLong as error:
        size, limit = error.detail["size"], error.detail["limit"]
        unit = "tokens" if (most := error.detail.get("most_chars")) is None else "characters"
        takes = f"{limit:,}" if most is None else f"{limit:,} tokens, at most {most:,} characters"
        raise bad_row(
            Path(row.file),
            row.line,
            f"a text of {size:,} {unit}, and the model takes {takes}",
            "Shorten it, or set the option truncate to have long texts cut",
            row.input,
        ) from error


def _target(
    task: str, row: Row, rendered: Rendered, index: dict[str, int], settings: Settings
) -> int | float | list[int]:
    """A label that the model does not have gives no target: such a row can be predicted, and is then a mistake."""
    if isinstance(row.label, float):
        return row.label / float(settings.options.get("scale", 1.0))
    if isinstance(row.label, WrittenText):
        return [target for one in rendered.context for target in one.targets]
    if isinstance(row.label, Answers):
        return _places(row.label, rendered)
    if isinstance(row.label, str):
        return index.get(row.label, IGNORED)
    assert isinstance(row.label, tuple)
    if task != "tag":
        return [index[label] for label in row.label if label in index]
    targets = [IGNORED] * len(rendered.ids)
    for first, tag in zip(rendered.context.firsts, row.label, strict=True):
        if first is not None:
            targets[first] = index.get(tag, IGNORED)
    return targets


def _places(answers: Answers, rendered: Rendered) -> list[int]:
    """The first and the last token of the first answer in every window, by turns."""
    flat: list[int] = []
    for window in rendered.context.windows:
        if answers.texts:
            start = answers.starts[0]
            flat += place_in(window, start, start + len(answers.texts[0]))
        else:
            flat += NOWHERE, NOWHERE
    return flat


def batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """The examples of each optimizer step of an epoch: shuffled, then cut so that neighbours in length meet.

    Equal lengths attend in one product. Only within a window, so that an epoch is no walk from short to long.
    """
    order = list(range(len(lengths)))
    shuffle = random.Random(f"{seed} epoch {epoch}").shuffle
    shuffle(order)
    made: list[list[int]] = []
    for start in range(0, len(order), size * WINDOW_BATCHES):
        window = sorted(order[start : start + size * WINDOW_BATCHES], key=lengths.__getitem__)
        made += [window[i : i + size] for i in range(0, len(window), size)]
    shuffle(made)
    return made


def passes(batch: Sequence[int], lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """The batch in parts of at most so many tokens, each sorted by length; one longer than that stands alone."""
    part: list[int] = []
    tokens = 0
    for i in sorted(batch, key=lengths.__getitem__):
        if part and tokens + lengths[i] > token_budget:
            yield part
            part, tokens = [], 0
        part.append(i)
        tokens += lengths[i]
    if part:
        yield part
