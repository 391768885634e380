"""Packs sequences into one row of tokens without padding, and runs the forward pass over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import torch
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.nn.adapters.adapter import prefix_rows, without_virtual
from llmos.nn.attention import NAME, Layout
from llmos.nn.generation.kv_cache import SequenceCache
from llmos.nn.generation.paged_attention import Plan

POOLINGS = ("mean", "cls", "last", "max")
BLOCK = 32  # tokens; also what AMX multiplies by at once


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences as one row: token ids and positions, both [1, T], and the length of each sequence.

    Neighbours of equal length attend in one product, so rows sorted by length run fastest.
    """

    ids: Tensor
    positions: Tensor
    lengths: tuple[int, ...]


def cut_rows(places: Iterable[int], lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Cut these sequences, in this order, into rows of at most `token_budget` tokens; a longer one is a row alone."""
    row: list[int] = []
    tokens = 0
    for i in places:
        if row and tokens + lengths[i] > token_budget:
            yield row
            row, tokens = [], 0
        row.append(i)
        tokens += lengths[i]
    if row:
        yield row


def pack(sequences: Sequence[Sequence[int]], device: torch.device | str = "cpu", starts: Sequence[int] = ()) -> Packed:
    """Pack these sequences into one row, in this order; `starts` are their first positions, 0 by default."""
    lengths = tuple(len(sequence) for sequence in sequences)
    if not lengths or not all(lengths):
        raise BadInput("There is nothing to compute: every input must have at least one token", reason="empty")
    spans = (range(s, s + n) for s, n in zip(starts or [0] * len(lengths), lengths, strict=True))
    ids = torch.tensor(list(chain.from_iterable(sequences)), device=device)
    positions = torch.tensor(list(chain.from_iterable(spans)), device=device)
    return Packed(ids.unsqueeze(0), positions.unsqueeze(0), lengths)


def fill(sequences: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """These sequences and, where their row would have an uneven number of tokens, others that fill it up.

    oneDNN compiles a product of bfloat16 matrices anew for each shape, which takes several times as long as the product
    of a few hundred tokens. Rows of any length would make it do so in most steps; a few dozen lengths recur. At most
    one token in 16 is added, or 31.
    """
    tokens, longest = sum(map(len, sequences)), max(map(len, sequences))
    block = max(BLOCK, 1 << max(0, tokens.bit_length() - 5))
    whole, rest = divmod(-tokens % block, longest)
    token = sequences[0][0]
    return [*sequences, *([token] * size for size in (*[longest] * whole, rest) if size)]


def forward(backbone: nn.Module, packed: Packed, kvs: Sequence[SequenceCache] | None = None) -> Tensor:
    """The last hidden state of every token, [T, hidden]; with kvs, each sequence continues from its KV cache.

    The tokens' keys and values are written, but count only after `advance`.
    """
    if has_own_attention(backbone):
        assert kvs is None, "An architecture without the attention interface cannot go on from keys and values"
        return _by_length(backbone, packed)
    return without_virtual(packed.ids, _outputs(backbone, packed, kvs).last_hidden_state[0])


def forward_layers(backbone: nn.Module, packed: Packed) -> tuple[Tensor, ...]:
    """The hidden states of every token, each [T, hidden]: the embeddings, then those after each layer.

    The last alone for an architecture that has an attention of its own, or that does not say the others.
    """
    if has_own_attention(backbone):
        return (_by_length(backbone, packed),)
    out = _outputs(backbone, packed, None, output_hidden_states=True)
    if not out.hidden_states:
        return (without_virtual(packed.ids, out.last_hidden_state[0]),)
    states = (*(one[0] for one in out.hidden_states[:-1]), out.last_hidden_state[0])
    return tuple(without_virtual(packed.ids, one) for one in states)


def has_own_attention(backbone: nn.Module) -> bool:
    """Whether its attention is not ours, so that texts of equal length are computed together."""
    # transformers has no public name for it
    return bool(backbone.config._attn_implementation != NAME)  # type: ignore[union-attr]


def _outputs(
    backbone: nn.Module, packed: Packed, kvs: Sequence[SequenceCache] | None, **more: bool
) -> Any:  # Any: transformers' outputs
    return backbone(
        input_ids=packed.ids,
        position_ids=packed.positions + position_offset(backbone),
        layout=_layout(packed, kvs),
        **({"use_cache": False} if hasattr(backbone.config, "use_cache") else {}),
        **more,
    )


def next_logits(
    causal: nn.Module, packed: Packed, kvs: Sequence[SequenceCache], counts: Sequence[int] | None = None
) -> Tensor:
    """The next token's logits of each sequence, [sequences, vocabulary]; each continues as in `forward`.

    With `counts`, the logits after so many last tokens of each sequence, [tokens, vocabulary].
    """
    if causal.config._attn_implementation != NAME:  # type: ignore[union-attr]  # as above
        raise BadInput(
            f"{type(causal).__name__} has its own attention; it can embed here, but not generate",
            architecture=type(causal).__name__,
        )
    ends = list(accumulate(packed.lengths))
    places = (
        ends
        if counts is None
        else [i for end, n in zip(ends, counts, strict=True) for i in range(end - n + 1, end + 1)]
    )
    lasts = torch.tensor(places, device=packed.ids.device) - 1
    out = causal(
        input_ids=packed.ids,
        position_ids=packed.positions,
        layout=_layout(packed, kvs),
        use_cache=False,
        logits_to_keep=lasts,
    )
    logits: Tensor = out.logits[0]
    return logits


def _layout(packed: Packed, kvs: Sequence[SequenceCache] | None) -> Layout:
    plan = None if kvs is None else Plan(packed.lengths, kvs, packed.ids.device)
    return Layout(packed.lengths, plan, prefixes=prefix_rows(packed.ids))


def _by_length(backbone: nn.Module, packed: Packed) -> Tensor:
    """For architectures with an attention of their own: one batch per length, so there is still no padding."""
    parts = []
    for start, count, length in Layout(packed.lengths).runs():
        ids = packed.ids[0, start : start + count * length].view(count, length)
        parts.append(backbone(input_ids=ids).last_hidden_state.flatten(0, 1))
    return without_virtual(packed.ids, torch.cat(parts))


def position_offset(backbone: nn.Module) -> int:
    """The position of the first token: RoBERTa's family counts from after its padding index, all others from 0."""
    embeddings = getattr(backbone, "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def pool(hidden: Tensor, lengths: Sequence[int], how: str) -> Tensor:
    """One vector per sequence from [T, hidden], in float32: the mean or maximum of its tokens, or the first or last
    one."""
    if how not in POOLINGS:
        raise BadInput(f"No pooling {how!r}. There are: {', '.join(POOLINGS)}", pooling=how, expected=list(POOLINGS))
    sizes = torch.tensor(lengths, device=hidden.device)
    if how in ("mean", "max"):
        return torch.segment_reduce(hidden.float(), how, lengths=sizes, axis=0)
    ends = sizes.cumsum(0)
    return hidden[ends - 1 if how == "last" else ends - sizes].float()
