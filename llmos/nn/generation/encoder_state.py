"""Encoder states: the input of an encoder-decoder, encoded once (its prefill) and kept in the KV cache for decoding.

Cross-attention keys and values lie in blocks of the same pool as the decoder's own, and are counted like them.
transformers' classes are used as they are: a hook passes positions to layers that count from 0, and a placeholder cache
tells the decoder that its source is cached.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from llmos.nn import relative_bias
from llmos.nn.attention import Layout
from llmos.nn.generation.block_pool import Key
from llmos.nn.generation.cross_attention import CrossAttention
from llmos.nn.generation.kv_cache import KVCache, SequenceCache
from llmos.nn.generation.paged_attention import Plan
from llmos.nn.packing import Packed

Layer = Any  # Any: a layer of some architecture, whose parts were checked
PROJECTIONS = (("k_proj", "v_proj"), ("k", "v"))  # the names of the key and value projections, by architecture
POSITIONS = "embed_positions"

_positions: ContextVar[Tensor | None] = ContextVar("positions", default=None)


class EncoderState:
    """An encoded input, shared by all of its answers. Its blocks stay in the KV cache while it has a holder."""

    def __init__(self, pool: KVCache, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self.kv = SequenceCache(pool, Key(), ())
        self.holders = 0

    @property
    def unread(self) -> int:
        """The tokens that the encoder still has to read: all of them, or none."""
        return 0 if self.kv.length else len(self.ids)

    def hold(self) -> None:
        self.holders += 1

    def drop(self) -> None:
        """Remove a holder. Without holders its blocks are freed, and it would need prefill again."""
        assert self.holders > 0, "a source is dropped and nobody holds it"
        self.holders -= 1
        if not self.holders:
            self.kv.release()


def watch(model: nn.Module) -> None:
    """Make the model compute packed rows from now on: positions and distances are counted per sequence."""
    relative_bias.watch(model)
    for name, layer in model.named_modules():
        if name.endswith(POSITIONS):
            layer.register_forward_pre_hook(_place, with_kwargs=True)


# Any: the layer's own arguments
def _place(layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any] | None:
    positions = _positions.get()
    return None if positions is None else (args, named | {"position_ids": positions})


@contextmanager
def _place_positions(packed: Packed) -> Iterator[None]:
    token = _positions.set(packed.positions[0])
    try:
        yield
    finally:
        _positions.reset(token)


def encode(model: Any, packed: Packed) -> Tensor:  # Any: transformers' methods, which Module does not declare
    """The encoder's last hidden state of every token of these sources, [S, hidden]."""
    with _place_positions(packed):
        out = model.get_encoder()(input_ids=packed.ids, layout=Layout(packed.lengths))
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


def read(model: Any, packed: Packed, sources: Sequence[SequenceCache]) -> None:  # Any: as encode
    """Encode these sources and write the keys and values of each cross-attention layer into their blocks."""
    hidden = encode(model, packed)
    plan = Plan(packed.lengths, sources, hidden.device)
    for layer in _crossing(model):
        names = next(names for names in PROJECTIONS if hasattr(layer, names[0]))
        key, value = (_by_head(layer, getattr(layer, name)(hidden)) for name in names)
        plan.write(layer.layer_idx, key, value)
    for source, length in zip(sources, packed.lengths, strict=True):
        source.hold(length)


def next_logits(
    model: Any, packed: Packed, kvs: Sequence[SequenceCache], sources: Sequence[SequenceCache]
) -> Tensor:  # Any: as encode
    """The next token's logits of each sequence, [sequences, vocabulary], given its KV cache and its source.

    As in `packing.forward`, the new keys and values count only after `advance`.
    """
    device = packed.ids.device
    plan, across = Plan(packed.lengths, kvs, device), CrossAttention(packed.lengths, sources, device)
    told = _Told(packed.ids.new_empty(0), plan.pool.layers)
    with _place_positions(packed):
        out = model(
            decoder_input_ids=packed.ids,
            encoder_outputs=BaseModelOutput(last_hidden_state=packed.ids),  # not read, because the source is cached
            layout=Layout(packed.lengths, plan, across=across),
            **{_cache_name(model): told},
        )
    logits: Tensor = out.logits[0]
    return logits[torch.tensor(packed.lengths, device=device).cumsum(0) - 1]


def hidden_of(model: Any, sources: Packed, packed: Packed) -> Tensor:  # Any: as encode
    """For training: the decoder's last hidden state of every token, [T, hidden], given each sequence's source."""
    hidden = encode(model, sources)
    with _place_positions(packed):
        out = model.get_decoder()(
            input_ids=packed.ids,
            encoder_hidden_states=hidden.unsqueeze(0),
            layout=Layout(packed.lengths, sources=sources.lengths),
            use_cache=False,
        )
    found: Tensor = out.last_hidden_state[0]
    return found


def _crossing(model: Any) -> Iterator[Layer]:  # Any: as encode
    """The decoder's cross-attention layers: its attention layers that are not causal."""
    for layer in model.get_decoder().modules():
        if getattr(layer, "is_causal", True) is False and getattr(layer, "layer_idx", None) is not None:
            yield layer


def _by_head(layer: Layer, x: Tensor) -> Tensor:
    """[T, heads * d] -> [heads, T, d]."""
    heads = layer.n_heads if hasattr(layer, "n_heads") else layer.num_heads
    return x.view(len(x), heads, -1).transpose(0, 1)


def _cache_name(model: Any) -> str:  # Any: as encode
    named = inspect.signature(model.forward).parameters
    return "cache" if "cache" in named else "past_key_values"  # the name in older versions of transformers


class _Told(EncoderDecoderCache):  # type: ignore[misc]  # transformers' classes are Any here
    """A placeholder cache: cross-attention keys and values are in our pool; self-attention ones are not stored here."""

    def __init__(self, nothing: Tensor, layers: int) -> None:
        self.self_attention_cache = _Passed()
        self.cross_attention_cache = _Passed([_Kept(nothing)] * layers)
        self.is_updated = dict.fromkeys(range(layers), True)


class _Kept:
    """A layer of that cache. Its keys and values are never read, because they are in the pool."""

    def __init__(self, nothing: Tensor) -> None:
        self.keys = self.values = nothing


class _Passed(Cache):  # type: ignore[misc]  # as above
    """A self-attention layer of that cache.

    It returns new keys and values unchanged; the attention function stores them.
    """

    def __init__(self, layers: Sequence[Any] = ()) -> None:  # Any: transformers' type for cache layers
        self.layers = list(layers)

    # Any: transformers' arguments
    def update(self, key: Tensor, value: Tensor, *args: Any, **named: Any) -> tuple[Tensor, Tensor]:
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0
