"""A sequence with its KV cache, and the forward pass that computes the next tokens of many of them.

Serving and evaluation both generate by these; which sequence computes how much in a step is theirs to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from llmos.abi.error import BadInput
from llmos.nn.generation import encoder_state
from llmos.nn.generation.echo import Echo
from llmos.nn.generation.encoder_state import EncoderState
from llmos.nn.generation.kv_cache import SequenceCache
from llmos.nn.generation.sequence import Generation
from llmos.nn.load import Loaded
from llmos.nn.packing import next_logits, pack
from llmos.tasks import Rendered
from llmos.tasks.generate import Sampling


@dataclass(slots=True, eq=False)
class CachedSequence:
    """One answer being generated, and its blocks. What an encoder reads for it is its source; answers may share one."""

    generation: Generation
    kv: SequenceCache
    source: EncoderState | None = None

    @property
    def unread(self) -> int:
        """The tokens of its source that the encoder still has to read, all at once."""
        return 0 if self.source is None else self.source.unread

    def lacks(self, count: int) -> int:
        """The number of blocks to take before this many more tokens fit, with those of an unread source."""
        own = self.kv.lacks(count)
        return own if self.source is None else own + self.source.kv.lacks(self.source.unread)

    def grow(self, count: int) -> bool:
        """Take these blocks; if the pool has too few, take none and return False."""
        if self.lacks(count) > self.kv.pool.blocks.available:
            return False
        return self.kv.grow(count) and (self.source is None or self.source.kv.grow(self.source.unread))

    def hold(self) -> None:
        """Hold the blocks that are cached for it already."""
        self.generation.skip(self.kv.resume())
        if self.source is not None:
            self.source.hold()

    def release(self) -> None:
        """Give all its blocks back, and the source where nobody else holds it."""
        self.kv.release()
        if self.source is not None:
            self.source.drop()


def opening_of(loaded: Loaded, prompt: Rendered) -> tuple[Sequence[int], int]:
    """The tokens that an answer begins behind, and how many there may be with the answer.

    Those are the prompt's own; an encoder-decoder reads the prompt as its source, and its decoder has an opening.
    """
    if loaded.reader is None:
        return [*loaded.virtual_ids, *prompt.ids], loaded.max_tokens + len(loaded.virtual_ids)
    return prompt.opening or loaded.reader.opening, loaded.reader.longest


def begin_generation(loaded: Loaded, prompt: Rendered, settings: Sampling) -> Generation:
    """The answer to a prompt, of which nothing is computed yet; raises TooLong where it has no room."""
    opening, room = opening_of(loaded, prompt)
    echo = Echo(prompt.ids, prompt.text, loaded.tokenizer, settings.top_logprobs) if settings.echo else None
    if echo is not None and loaded.reader is not None:
        raise BadInput("A base with an encoder continues no prompt, so it repeats none. Leave out echo", key="echo")
    return Generation(opening, settings, loaded.tokenizer, loaded.ends, room, loaded.rules, echo)


def read_sources(loaded: Loaded, sources: Sequence[EncoderState]) -> None:
    """The encoder's pass over these sources, whose blocks are there."""
    packed = pack([source.ids for source in sources], loaded.device)
    encoder_state.read(loaded.causal, packed, [source.kv for source in sources])


def compute_logits(
    loaded: Loaded, row: Sequence[tuple[CachedSequence, Sequence[int]]], counts: Sequence[int] | None = None
) -> Tensor:
    """The next token's logits after each sequence's next tokens, [sequences, vocabulary]; all sources are read.

    With `counts`, those after so many last tokens of each sequence, [tokens, vocabulary].
    """
    assert loaded.causal is not None, "only a base with a next-token layer generates"
    kvs = [sequence.kv for sequence, _ in row]
    packed = pack([ids for _, ids in row], loaded.device, [kv.length for kv in kvs])
    sources = [sequence.source.kv for sequence, _ in row if sequence.source is not None]
    if sources:
        return encoder_state.next_logits(loaded.causal, packed, kvs, sources)
    return next_logits(loaded.causal, packed, kvs, counts)
