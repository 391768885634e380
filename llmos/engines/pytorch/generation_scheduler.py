"""The generation scheduler: continuous batching, chunked prefill, and preemption when the KV cache is full.

Each sequence has tokens to compute, of its prompt or of its answer, and a step has a token budget for all of them.
Steps alternate: first prefill alone, so that first tokens come soon; then decode, with prefill in the rest of the
budget.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby

import torch

from llmos.abi.call import Chunk
from llmos.abi.error import TooLong, fault_of
from llmos.engines.active_call import log_fault
from llmos.engines.intake import PART_INPUTS
from llmos.engines.priority import PriorityQueue
from llmos.engines.pytorch.model import ServedCall, applying_adapters, no_number
from llmos.nn.generation.block_pool import Key, origin
from llmos.nn.generation.cached_sequence import (
    CachedSequence,
    begin_generation,
    compute_logits,
    opening_of,
    read_sources,
)
from llmos.nn.generation.encoder_state import EncoderState
from llmos.nn.generation.kv_cache import BLOCK, KVCache, SequenceCache
from llmos.nn.grammar.matcher import least
from llmos.tasks.generate import Sampling, salt_of, sampling
from llmos.tasks.inputs import naming_place
from llmos.tasks.tools import with_tool_rule

LIVE = 256  # sequences running at a time
MANY = 8  # a call with more answers is large, and yields to smaller ones

TokenGrant = tuple["RunningSequence", list[int]]


@dataclass(slots=True, eq=False, kw_only=True)
class RunningSequence(CachedSequence):
    """One input of a call whose answer is being generated. `place` orders them: who has the lower one goes first."""

    job: ServedCall
    index: int
    cost: int = 0  # the most tokens that it may take
    place: tuple[float, int] = (0.0, 0)

    @property
    def is_over(self) -> bool:
        return self.job.is_over or self.generation.finish_reason is not None

    @property
    def is_reading(self) -> bool:
        """Whether it is in prefill: more than one token to compute."""
        return self.generation.tokens_left > 1 or self.unread > 0


class GenerationScheduler:
    """The running sequences, and those that wait for blocks; both in order."""

    def __init__(self, step_tokens: int, pool: KVCache, most: int = LIVE) -> None:
        self.pool = pool
        self.preempted = 0
        self._most = most  # sequences running at a time
        self._step_tokens = step_tokens
        self._live: list[RunningSequence] = []
        self._waiting: list[RunningSequence] = []
        self._numbers = count()
        self._turns = PriorityQueue()
        self._has_read = False  # whether the last step was prefill alone

    def __len__(self) -> int:
        return len(self._live) + len(self._waiting)

    @property
    def live(self) -> int:
        """The number of running sequences."""
        return len(self._live)

    def make(self, job: ServedCall) -> Generator[None, None, list[RunningSequence]]:
        """Make the sequences of a call, step by step and in any thread; TooLong if the prompt leaves no room for an
        answer."""
        job.repeat(sampling(job.call.params).n)
        job.is_large = len(job.rendered) > MANY
        salt = salt_of(job.call.params)
        read: dict[int, EncoderState] = {}
        made = []
        for index in range(len(job.rendered)):
            with naming_place(index=index // job.copies):
                made.append(self._make_sequence(job, index, salt, read))
            if len(made) % PART_INPUTS == 0:
                yield
        return made

    def add(self, job: ServedCall, made: Sequence[RunningSequence]) -> None:
        """Queue a call's sequences."""
        place = self._turns.enter(job)
        for stream in made:
            stream.place = (place, next(self._numbers))
            place += self._turns.step_of(job, stream.cost)
            insort(self._waiting, stream, key=_place)

    def step(self) -> list[Chunk]:
        """One forward pass for each group of models that share rows; a fault ends the calls of its row."""
        self.let_go()
        self._admit()
        chunks: list[Chunk] = []
        wanted = token_grants(self._live, self._step_tokens, is_for_prompts=not self._has_read)
        self._has_read = bool(wanted) and all(stream.is_reading for stream, _ in wanted)
        given = sorted(self._with_blocks(wanted), key=_order)
        self._turns.start_row((stream.job, stream.place[0], len(ids) + stream.unread) for stream, ids in given)
        for _, row in groupby(given, key=_group):
            chunks += _compute_row(list(row))
        self.let_go()
        return chunks

    @property
    def figures(self) -> dict[str, float]:
        """Running and waiting sequences, and the use of the KV cache; `kv_waste` is the empty share of held blocks."""
        usage = self.pool.usage
        return {
            "live": len(self._live),
            "reading": sum(stream.is_reading for stream in self._live),
            "waiting": len(self._waiting),
            "preempted": self.preempted,
            "kv_blocks": usage.total,
            "kv_held": usage.held,
            "kv_kept": usage.kept,
            "kv_waste": round(self.pool.waste, 3),
            "prefix_hit_rate": round(usage.hit_rate, 3),
        }

    def let_go(self) -> None:
        """Release the blocks of finished sequences."""
        for stream in self._live:
            if stream.is_over:
                stream.release()
        self._live = [stream for stream in self._live if not stream.is_over]
        self._waiting = [stream for stream in self._waiting if not stream.is_over]

    def _make_sequence(self, job: ServedCall, index: int, salt: str, read: dict[int, EncoderState]) -> RunningSequence:
        """The answer to one input; of an encoder-decoder the input is its source, which all copies share."""
        loaded, prompt = job.model.loaded, job.rendered[index]
        settings = _settings(job, index, self.pool.capacity)
        generation = begin_generation(loaded, prompt, settings)
        source = None
        what, cost = "prompt", len(generation.ids) + settings.max_tokens
        if loaded.reader is not None:
            source = read.setdefault(index // job.copies, EncoderState(self.pool, prompt.ids))
            what, cost = "input", BLOCK * (_blocks(len(prompt.ids)) + _blocks(cost))
        if cost > self.pool.capacity:
            raise TooLong(
                f"The {what} has {len(prompt.ids):,} tokens; with an answer of one token there is room for the keys "
                f"and values of {self.pool.capacity:,}. Shorten the {what}, or raise kv_bytes",
                size=cost,
                limit=self.pool.capacity,
            )
        start = origin(job.model.ref, *job.model.files, salt, *map(str, () if source is None else source.ids))
        kv = SequenceCache(self.pool, start, generation.cacheable)
        return RunningSequence(generation, kv, source, job=job, index=index, cost=cost)

    def _admit(self) -> None:
        """Start waiting sequences in order while they fit, preempting sequences with a later place if needed.

        Preempted sequences start again in a later step. A sequence waits if another one's prefill is computing its
        prefix.
        """
        coming = {key for stream in self._live for key in _coming(stream)}
        still: list[RunningSequence] = []
        sent_back: set[RunningSequence] = set()
        while self._waiting and self._waiting[0] not in sent_back and not self._is_full(self._waiting[0]):
            stream = self._waiting.pop(0)
            found = stream.kv.cached_prefix()
            if any(key in coming for key in stream.kv.ahead[len(found) : len(found) + 1]):
                still.append(stream)
                continue
            if not self._fits(stream, found):
                younger = self._preemption_victims(stream, found)
                if not younger:
                    still.append(stream)
                    break
                for one in younger:
                    self._preempt(one)
                sent_back.update(younger)
            stream.hold()
            insort(self._live, stream, key=_place)
            coming.update(_coming(stream))
        self._waiting = still + self._waiting

    def _is_full(self, stream: RunningSequence) -> bool:
        """Whether all slots are taken by sequences with an earlier place."""
        return len(self._live) >= self._most and self._live[-1].place <= stream.place

    def _fits(self, stream: RunningSequence, found: Sequence[int], less: Sequence[RunningSequence] = ()) -> bool:
        """Whether the KV cache has blocks for it and for the rest of every running sequence, at least one block each.

        Without that reserve it would soon be preempted. `less` are running sequences assumed to be preempted.
        """
        blocks, kept = self.pool.blocks, self._live[: len(self._live) - len(less)]
        shared = sum(blocks.holders(block) > 0 for block in found)
        needed = stream.lacks(stream.generation.tokens_left) - shared
        needed += sum(max(1, one.lacks(one.generation.tokens_left)) for one in kept)
        room = blocks.available + self._freeable_blocks(less, stream, found)
        return len(kept) < self._most and (not kept or needed <= room)

    def _preemption_victims(self, stream: RunningSequence, found: Sequence[int]) -> list[RunningSequence]:
        """The fewest of the latest sequences whose preemption makes it fit; none if no preemption does."""
        later = [one for one in reversed(self._live) if one.place > stream.place]
        if not later or not self._fits(stream, found, later):
            return []
        fewest = bisect_left(range(1, len(later)), True, key=lambda few: self._fits(stream, found, later[:few]))
        return later[: fewest + 1]

    def _freeable_blocks(self, some: Sequence[RunningSequence], stream: RunningSequence, found: Sequence[int]) -> int:
        """The blocks that preempting these sequences would free, without those that this one would share."""
        shared = set(found)
        held = Counter(block for one in some for block in one.kv.table if block not in shared)
        read = Counter(one.source for one in some if one.source is not None and one.source is not stream.source)
        own = sum(self.pool.blocks.holders(block) == times for block, times in held.items())
        return own + sum(len(source.kv.table) for source, times in read.items() if source.holders == times)

    def _with_blocks(self, wanted: Sequence[TokenGrant]) -> list[TokenGrant]:
        """Give the granted sequences their blocks, earliest first; the latest ones are preempted if blocks run out."""
        for stream, ids in sorted(wanted, key=lambda share: share[0].place):
            while stream in self._live and not stream.grow(len(ids)):
                self._preempt(self._live[-1])
        return [(stream, ids) for stream, ids in wanted if stream in self._live]

    def _preempt(self, stream: RunningSequence) -> None:
        """Free its blocks and queue it again; later it needs prefill of prompt and answer, except for blocks still
        cached."""
        self.preempted += 1
        self._live.remove(stream)
        stream.release()
        stream.kv.expect(stream.generation.cacheable)
        stream.generation.again()
        insort(self._waiting, stream, key=_place)


def token_grants(live: Iterable[RunningSequence], left: int, *, is_for_prompts: bool) -> list[TokenGrant]:
    """Divide a step's token budget: all of it to the earliest prompts, or first one token for each decoding sequence.

    An encoder's source is read whole. If it exceeds what is left, it waits until it can be first in a step.
    """
    ordered = sorted(live, key=lambda stream: (stream.is_reading, stream.place))
    prompts = [stream for stream in ordered if stream.is_reading]
    given: list[TokenGrant] = []
    read: set[int] = set()
    for stream in (is_for_prompts and prompts) or ordered:
        unread = 0 if id(stream.source) in read else stream.unread
        if left <= 0 or (given and unread >= left):
            break
        read.add(id(stream.source))
        ids = stream.generation.next_ids(max(1, left - unread))
        left -= unread + len(ids)
        given.append((stream, ids))
    return given


def _place(stream: RunningSequence) -> tuple[float, int]:
    return stream.place


def _group(share: TokenGrant) -> tuple[int, int]:
    return share[0].job.model.group


def _order(share: TokenGrant) -> tuple[tuple[int, int], tuple[int, str]]:
    """Sort key: group by group, and by adapter within a group."""
    model = share[0].job.model
    return model.group, model.place


def _coming(stream: RunningSequence) -> Sequence[Key]:
    return stream.kv.ahead if stream.generation.tokens_left > 1 else ()


def _settings(job: ServedCall, index: int, capacity: int) -> Sampling:
    """The request's settings, with `max_tokens` cut to the room there is, but not below what its grammar needs."""
    one = job.rendered[index]
    settings = with_tool_rule(sampling(job.call.params), one.context).for_answer(index % job.copies)
    loaded = job.model.loaded
    opening, longest = opening_of(loaded, one)
    source_blocks = 0 if loaded.reader is None else _blocks(len(one.ids))
    room = min(longest, capacity - BLOCK * source_blocks) - len(opening)
    needed = max(1, least(settings.grammar, loaded.tokenizer, loaded.ends))
    return replace(settings, max_tokens=min(settings.max_tokens, max(needed, room)))


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK)


def _compute_row(row: list[TokenGrant]) -> list[Chunk]:
    """Compute the next tokens of these sequences in one row; a fault ends their calls."""
    chunks: list[Chunk] = []
    try:
        chunks += _advance(row)
    except Exception as error:  # noqa: BLE001  the top of a loop: whatever it was, those who wait learn of it
        chunks += [chunk for stream, _ in row for chunk in stream.job.fail(log_fault(error))]
    return chunks


def _advance(row: list[TokenGrant]) -> Iterator[Chunk]:
    loaded = row[0][0].job.model.loaded
    new = {id(stream.source): stream for stream, _ in row if stream.unread}
    if new:
        found = [(stream.job.model, stream.source) for stream in new.values() if stream.source is not None]
        with applying_adapters((model, len(source.ids)) for model, source in found):
            read_sources(loaded, [source for _, source in found])
    counts = [stream.generation.logits_of(len(ids)) for stream, ids in row]
    with applying_adapters((stream.job.model, len(ids)) for stream, ids in row):
        logits = compute_logits(loaded, row, counts)
    are_numbers = iter(logits.amax(-1).isfinite().tolist())
    for (stream, ids), scores in zip(row, torch.split(logits, counts), strict=True):
        own = [next(are_numbers) for _ in scores]
        if not all(own):
            stream.kv.wipe()
            if stream.source is not None:
                stream.source.kv.wipe()
            yield from stream.job.fail(fault_of(no_number(stream.job.model.ref)))
            continue
        stream.kv.advance(ids)
        try:
            yield from _text_chunks(stream, stream.generation.advance(len(ids), scores))
        except Exception as error:  # noqa: BLE001  one answer's fault, whatever it was, is no neighbour's
            yield from stream.job.fail(log_fault(error))


def _text_chunks(stream: RunningSequence, text: str) -> list[Chunk]:
    """The chunk for this step's text, if there is one."""
    job, generation = stream.job, stream.generation
    if generation.finish_reason is not None:
        job.completion_tokens += len(generation.made)
    logprobs = generation.logprobs if generation.has_logprobs else None
    return job.put_text(stream.index, generation.text, text, generation.finish_reason, logprobs, generation.stop)
