"""Generates answers for rows with greedy decoding, batched over the KV cache, to score a generative candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from llmos.abi.task import is_generative
from llmos.data.row import Row
from llmos.nn.generation import encoder_state
from llmos.nn.generation.encoder_state import EncoderState
from llmos.nn.generation.kv_cache import KVCache, SequenceCache, token_bytes
from llmos.nn.generation.sequence import Generation
from llmos.nn.load import Loaded
from llmos.nn.packing import next_logits, pack
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


@torch.inference_mode()
def write(
    candidate: Candidate,
    prompts: Sequence[Rendered],
    most: int,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The likeliest continuation of each prompt, of at most so many tokens, or what the model has room for."""
    loaded = candidate.loaded
    assert loaded.causal is not None
    each = token_bytes(loaded.config, loaded.kv_dtype.itemsize)
    longest = max((len(prompt.ids) for prompt in prompts), default=0) + most
    pool = KVCache(max(POOL_BYTES, 2 * each * longest), each, loaded.device, loaded.kv_dtype)
    waiting = [
        _begin_text(loaded, i, one, most, pool)
        for i, one in sorted(enumerate(prompts), key=lambda one: -len(one[1].ids))
    ]
    live: list[_Text] = []
    texts = [""] * len(prompts)
    done = 0
    while waiting or live:
        while waiting and len(live) < AT_ONCE and waiting[-1].grow(most):
            live.append(waiting.pop())
        assert live, "a pool has room for the longest answer"
        row, left = [], STEP_TOKENS
        for one in live:
            if left > 0:
                row.append((one, one.generation.next_ids(left)))
                left -= len(row[-1][1])
        kvs = [one.kv for one, _ in row]
        read = [one.source for one, _ in row if one.source is not None]
        with candidate.computing():
            _read(loaded, [one for one in read if one.unread])
            packed = pack([ids for _, ids in row], loaded.device, [kv.length for kv in kvs])
            if read:
                logits = encoder_state.next_logits(loaded.causal, packed, kvs, [one.kv for one in read]).float()
            else:
                logits = next_logits(loaded.causal, packed, kvs).float()
        for (one, ids), scores in zip(row, logits, strict=True):
            one.kv.advance(ids)
            one.generation.advance(len(ids), scores)
            if one.generation.finish_reason is not None:
                texts[one.place] = one.generation.text
                one.release()
                done += 1
        live = [one for one in live if one.generation.finish_reason is None]
        on_done(done)
    return texts


@dataclass(frozen=True, slots=True)
class _Text:
    """One answer being written, and what it is written of where an encoder reads that."""

    place: int
    generation: Generation
    kv: SequenceCache
    source: EncoderState | None = None

    def grow(self, most: int) -> bool:
        """Room for all of it; takes none and says False if the pool has too little."""
        if self.source is None:
            return self.kv.grow(len(self.generation.ids) + most)
        lacking = self.source.kv.lacks(self.source.unread)
        if lacking + self.kv.lacks(len(self.generation.ids) + most) > self.kv.pool.blocks.available:
            return False
        self.source.hold()
        return self.source.kv.grow(self.source.unread) and self.kv.grow(len(self.generation.ids) + most)

    def release(self) -> None:
        self.kv.release()
        if self.source is not None:
            self.source.drop()


def _begin_text(loaded: Loaded, place: int, prompt: Rendered, most: int, pool: KVCache) -> _Text:
    reader, room, ids = loaded.reader, loaded.max_tokens, prompt.ids
    opening: Sequence[int] = ids
    if reader is not None:
        opening, room = prompt.opening or reader.opening, reader.longest
    settings = Sampling(temperature=0.0, max_tokens=max(1, min(most, room - len(opening))))
    generation = Generation(opening, settings, loaded.tokenizer, loaded.ends, room, loaded.rules)
    return _Text(
        place, generation, SequenceCache(pool, b"", opening), None if reader is None else EncoderState(pool, ids)
    )


def _read(loaded: Loaded, new: list[EncoderState]) -> None:
    """The encoder's passes over these sources, of about a step's tokens each."""
    while new:
        part: list[EncoderState] = []
        tokens = 0
        while new and (not part or tokens + len(new[-1].ids) <= STEP_TOKENS):
            part.append(new.pop())
            tokens += len(part[-1].ids)
        encoder_state.read(loaded.causal, pack([one.ids for one in part], loaded.device), [one.kv for one in part])
