"""Answers being generated: each step, every live one of a group gets its next token in one row, prompts in pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from llmos.abi.call import Chunk
from llmos.abi.error import fault_of
from llmos.engines.pytorch.job import Job
from llmos.engines.pytorch.model import adapted
from llmos.nn.generate import Generation
from llmos.nn.pack import next_logits, pack
from llmos.tasks.generate import Sampling, sampling

LIVE = 16  # answers generated at a time; more wait, each holds keys and values


@dataclass(frozen=True, slots=True)
class Stream:
    """One input of a call whose answer is being generated."""

    job: Job
    index: int
    generation: Generation


class Streams:
    """What is being generated, and what waits for a place."""

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens  # a step, so that those who already read along do not wait long
        self._live: list[Stream] = []
        self._waiting: deque[Stream] = deque()

    def __len__(self) -> int:
        return len(self._live) + len(self._waiting)

    def add(self, job: Job) -> None:
        """Raises TooLong for a prompt that leaves no room for the tokens asked for."""
        loaded = job.model.loaded
        made = [
            Generation(one.ids, _settings(job, len(one.ids)), loaded.tokenizer, loaded.ends, loaded.max_tokens)
            for one in job.rendered
        ]
        self._waiting.extend(Stream(job, i, generation) for i, generation in enumerate(made))

    def step(self) -> list[Chunk]:
        """Every live answer goes on by a token, or by a piece of its prompt; a fault ends those of its row."""
        self._admit()
        chunks: list[Chunk] = []
        live = sorted(self._live, key=lambda s: (s.job.model.group, s.job.model.place))
        for _, group in groupby(live, key=lambda s: s.job.model.group):
            row = list(group)
            try:
                chunks += _advance(row, self._prompt_tokens)
            except Exception as error:  # noqa: BLE001  the top of a loop: whatever it was, those who wait learn of it
                chunks += [chunk for stream in row for chunk in stream.job.failed(fault_of(error))]
        return chunks

    def _admit(self) -> None:
        self._live = [s for s in self._live if not s.job.is_over and s.generation.finish_reason is None]
        while self._waiting and len(self._live) < LIVE:
            stream = self._waiting.popleft()
            if not stream.job.is_over:
                self._live.append(stream)


def _settings(job: Job, prompt_tokens: int) -> Sampling:
    """What the request says; how long an answer may be where it does not say is what the model has room for."""
    settings = sampling(job.call.params)
    if job.call.params.get("max_tokens") is not None:
        return settings
    room = job.model.loaded.max_tokens - prompt_tokens
    return replace(settings, max_tokens=max(1, min(settings.max_tokens, room)))


def _advance(row: list[Stream], prompt_tokens: int) -> Iterator[Chunk]:
    """One forward pass over the next tokens of these answers."""
    model = row[0].job.model
    assert model.loaded.causal is not None
    parts = list(_shares(row, prompt_tokens))
    taken = [stream for stream, _ in parts]
    caches = [stream.generation.cache for stream in taken]
    with adapted((stream.job.model, len(ids)) for stream, ids in parts):
        packed = pack([ids for _, ids in parts], model.loaded.device, [cache.length for cache in caches])
        logits = next_logits(model.loaded.causal, packed, caches)
    for (stream, ids), scores in zip(parts, logits, strict=True):
        yield from _said(stream, stream.generation.computed(len(ids), scores))


def _shares(row: list[Stream], left: int) -> Iterator[tuple[Stream, list[int]]]:
    """Who computes which tokens this step: one for each answer under way, the oldest prompts from what is left."""
    for stream in row:
        if stream.generation.is_prefilled:
            yield stream, stream.generation.next_ids(1)
        elif left:
            ids = stream.generation.next_ids(left)
            left -= len(ids)
            yield stream, ids


def _said(stream: Stream, text: str) -> Iterator[Chunk]:
    """The chunk that this step's text makes, if it makes one."""
    job, generation = stream.job, stream.generation
    if generation.finish_reason is not None:
        job.completion_tokens += len(generation.made)
    raw = {"text": text, "finish_reason": generation.finish_reason}
    if job.call.stream:
        output = job.parse(stream.index, raw)
        if generation.finish_reason is not None:
            yield job.last((output,))
        elif text:
            yield Chunk(job.call.call_id, (output,), is_last=False)
    elif generation.finish_reason is not None:
        yield from job.put(stream.index, {**raw, "text": generation.text})
