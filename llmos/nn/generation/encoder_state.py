"""Encoder states: an encoder-decoder's input, encoded once (its prefill) and kept in the KV cache for decoding.

What the decoder's layers see of a source, its keys and values, lies in blocks of the same pool as those of what is
written, counted like them. No architecture is rewritten: positions reach the layers that count from 0 by a hook, and
a decoder is told that its source is in a cache already.
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

Layer = Any  # Any: a layer of some architecture, with the parts that were looked for
PROJECTIONS = (("k_proj", "v_proj"), ("k", "v"))  # how architectures call what makes keys and values
POSITIONS = "embed_positions"

_positions: ContextVar[Tensor | None] = ContextVar("positions", default=None)


class EncoderState:
    """An encoded input, which all of its answers share; its blocks are in the KV cache while somebody holds it."""

    def __init__(self, pool: KVCache, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self.kv = SequenceCache(pool, Key(), ())
        self.holders = 0

    @property
    def unread(self) -> int:
        """Tokens that the encoder has still to read: all of them, or none."""
        return 0 if self.kv.length else len(self.ids)

    def hold(self) -> None:
        self.holders += 1

    def drop(self) -> None:
        """One holder less. With none left its blocks are free, and it would need prefill again."""
        assert self.holders > 0, "a source is dropped and nobody holds it"
        self.holders -= 1
        if not self.holders:
            self.kv.release()


def watch(model: nn.Module) -> None:
    """From now on the model computes packed rows: its positions and its distances are those of each sequence."""
    relative_bias.watch(model)
    for name, layer in model.named_modules():
        if name.endswith(POSITIONS):
            layer.register_forward_pre_hook(_place, with_kwargs=True)


def _place(layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any] | None:  # Any: its own
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
    """Encode these sources, and leave in their blocks what each of the decoder's layers sees of them."""
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
    """The next token's logits after each sequence, [sequences, vocabulary], each going on from its own and its source.

    As in `pack.forward`, what is written counts once each sequence is told to `advance`.
    """
    device = packed.ids.device
    plan, across = Plan(packed.lengths, kvs, device), CrossAttention(packed.lengths, sources, device)
    told = _Told(packed.ids.new_empty(0), plan.pool.layers)
    with _place_positions(packed):
        out = model(
            decoder_input_ids=packed.ids,
            encoder_outputs=BaseModelOutput(last_hidden_state=packed.ids),  # which is not read
            layout=Layout(packed.lengths, plan, across=across),
            **{_cache_name(model): told},
        )
    logits: Tensor = out.logits[0]
    return logits[torch.tensor(packed.lengths, device=device).cumsum(0) - 1]


def hidden_of(model: Any, sources: Packed, packed: Packed) -> Tensor:  # Any: as encode
    """The decoder's last hidden state of every token, [T, hidden], each sequence beside its source: for training."""
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
    """The layers in which a decoder sees its source: those of its attention that look both ways."""
    for layer in model.get_decoder().modules():
        if getattr(layer, "is_causal", True) is False and getattr(layer, "layer_idx", None) is not None:
            yield layer


def _by_head(layer: Layer, x: Tensor) -> Tensor:
    """[T, heads * d] -> [heads, T, d]."""
    heads = layer.n_heads if hasattr(layer, "n_heads") else layer.num_heads
    return x.view(len(x), heads, -1).transpose(0, 1)


def _cache_name(model: Any) -> str:  # Any: as encode
    named = inspect.signature(model.forward).parameters
    return "cache" if "cache" in named else "past_key_values"  # its name in transformers before


class _Told(EncoderDecoderCache):  # type: ignore[misc]  # transformers' classes are Any here
    """A placeholder cache: cross-attention keys and values are in our pool; self-attention ones are not stored here."""

    def __init__(self, nothing: Tensor, layers: int) -> None:
        self.self_attention_cache = _Passed()
        self.cross_attention_cache = _Passed([_Kept(nothing)] * layers)
        self.is_updated = dict.fromkeys(range(layers), True)


class _Kept:
    """A layer of it: keys and values that nobody reads, for they lie in the pool."""

    def __init__(self, nothing: Tensor) -> None:
        self.keys = self.values = nothing


class _Passed(Cache):  # type: ignore[misc]  # as above
    """New keys and values go through: the attention function writes them into the pool."""

    def __init__(self, layers: Sequence[Any] = ()) -> None:  # Any: transformers wants layers of its own kind
        self.layers = list(layers)

    def update(self, key: Tensor, value: Tensor, *args: Any, **named: Any) -> tuple[Tensor, Tensor]:  # Any: its own
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0
