"""Generates answers for rows with greedy decoding, batched over the KV cache, to score a generative candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from llmos.abi.task import is_generative
from llmos.data.row import Row
from llmos.nn.generation.cached_sequence import (
    CachedSequence,
    begin_generation,
    compute_logits,
    opening_of,
    read_sources,
)
from llmos.nn.generation.encoder_state import EncoderState
from llmos.nn.generation.kv_cache import KVCache, SequenceCache, token_bytes
from llmos.nn.load import Loaded
from llmos.tasks import Rendered, Settings
from llmos.tasks import task as task_of
from llmos.tasks.generate import Sampling
from llmos.training.candidate import Candidate
from llmos.training.examples import Example

ROWS = 200  # how many are answered, unless the option `answered_rows` says another number
LONGER = 2  # times the longest answer of these rows an answer may have tokens
AT_ONCE = 32
STEP_TOKENS = 512
POOL_BYTES = 1 << 28


def generate_answers(
    candidate: Candidate,
    task: str,
    rows: Sequence[Row],
    examples: Sequence[Example[Any]],  # Any: targets and predictions of the task's family
    predicted: Sequence[Any],
    settings: Settings,
    answered: Sequence[int] | None = None,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Any]:
    """The predictions, with what is written to the rows at the places `answered`, or else to as many of the rows as the
    options say, evenly out of all of them."""
    if not is_generative(task):
        return list(predicted)
    chosen = chosen_of(len(rows), settings) if answered is None else answered
    longest = max((len(lesson.targets) for i in chosen for lesson in examples[i].rendered.context[-1:]), default=1)
    prompts = [task_of(task).render([rows[i].input], candidate.loaded.tokenizer, settings)[0] for i in chosen]
    candidate.train(False)
    texts = write(candidate, prompts, LONGER * longest, on_done=on_done)
    found = list(predicted)
    for i, text in zip(chosen, texts, strict=True):
        found[i] = replace(found[i], answer=text)
    return found


def chosen_of(count: int, settings: Settings) -> list[int]:
    """Which rows are answered: all, or so many at equal distances."""
    most = int(settings.options.get("answered_rows", ROWS))
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]


def places_answered(predicted: Sequence[Any]) -> list[int]:  # Any: as above
    """Which of these predictions have a generated answer: none where the task does not write."""
    return [i for i, one in enumerate(predicted) if getattr(one, "answer", None) is not None]


def said_of_answers(task: str, count: int, settings: Settings) -> dict[str, str]:
    """For the evidence: how many rows were answered, and how."""
    if not is_generative(task):
        return {}
    most = f"at most {LONGER} times as long as the longest true one"
    return {"answers": f"to {len(chosen_of(count, settings)):,} of {count:,} test rows, greedy, {most}"}


def write(
    candidate: Candidate,
    prompts: Sequence[Rendered],
    most: int,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The likeliest continuation of each prompt, of at most so many tokens, or what the model has room for."""
    return [one.text for one in write_answers(candidate, prompts, most, on_done=on_done)]


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """What was written to a prompt, and whether it came to its end by itself."""

    text: str
    is_whole: bool


@torch.inference_mode()
def write_answers(
    candidate: Candidate,
    prompts: Sequence[Rendered],
    most: int,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[WholeAnswer]:
    """As `write`, and whether each continuation is whole."""
    loaded = candidate.loaded
    assert loaded.causal is not None
    each = token_bytes(loaded.config, loaded.kv_dtype.itemsize)
    longest = max((len(prompt.ids) for prompt in prompts), default=0) + most
    pool = KVCache(max(POOL_BYTES, 2 * each * longest), each, loaded.device, loaded.kv_dtype)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].ids))
    waiting = [_Answer(i, _begin_sequence(loaded, prompts[i], most, pool)) for i in order]
    live: list[_Answer] = []
    texts = [WholeAnswer("", is_whole=False)] * len(prompts)
    done = 0
    while waiting or live:
        while waiting and len(live) < AT_ONCE and waiting[-1].take_blocks(most):
            live.append(waiting.pop())
        assert live, "a pool has room for the longest answer"
        row, left = [], STEP_TOKENS
        for one in live:
            if left > 0:
                row.append((one.sequence, one.sequence.generation.next_ids(left)))
                left -= len(row[-1][1])
        with candidate.computing():
            _read(loaded, [one.source for one, _ in row if one.source is not None and one.unread])
            logits = compute_logits(loaded, row).float()
        for (sequence, ids), scores in zip(row, logits, strict=True):
            sequence.kv.advance(ids)
            sequence.generation.advance(len(ids), scores)
        for one in live:
            if one.is_done:
                generation = one.sequence.generation
                texts[one.place] = WholeAnswer(generation.text, generation.finish_reason != "length")
                one.sequence.release()
                done += 1
        live = [one for one in live if not one.is_done]
        on_done(done)
    return texts


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer being written, and which prompt it is to."""

    place: int
    sequence: CachedSequence

    @property
    def is_done(self) -> bool:
        return self.sequence.generation.finish_reason is not None

    def take_blocks(self, most: int) -> bool:
        """Take the blocks of its prompt and of so many tokens; False, and none taken, if the pool has too few."""
        source = self.sequence.source
        if not self.sequence.grow(len(self.sequence.generation.ids) + most):
            return False
        if source is not None:
            source.hold()
        return True


def _begin_sequence(loaded: Loaded, prompt: Rendered, most: int, pool: KVCache) -> CachedSequence:
    opening, room = opening_of(loaded, prompt)
    settings = Sampling(temperature=0.0, max_tokens=max(1, min(most, room - len(opening))))
    source = None if loaded.reader is None else EncoderState(pool, prompt.ids)
    return CachedSequence(begin_generation(loaded, prompt, settings), SequenceCache(pool, b"", opening), source)


def _read(loaded: Loaded, new: list[EncoderState]) -> None:
    """The encoder's passes over these sources, of about a step's tokens each."""
    while new:
        part: list[EncoderState] = []
        tokens = 0
        while new and (not part or tokens + len(new[-1].ids) <= STEP_TOKENS):
            part.append(new.pop())
            tokens += len(part[-1].ids)
        read_sources(loaded, part)
