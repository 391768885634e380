"""Attention of a packed row in training with dropout: sequences of similar lengths attend in one product, padded.

torch's own function makes a dozen operations for each group of one length, forward and backward, whose call costs more
than what they compute. Here a row has few groups, wherever in it their sequences stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from llmos.nn.dropout import dropout_factors

STEP = 16  # tokens: lengths are rounded up to multiples of so many


@dataclass(frozen=True, slots=True)
class PaddedGroup:
    """Sequences that are padded to one length: `count` of `length` tokens, from `start` on in the padded row.

    `unseen` [1, count, 1, length] is true for keys that are padding; None if there is none.
    """

    start: int
    count: int
    length: int
    unseen: Tensor | None


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A row as padded groups: `places` [P] is the token of each padded place, `back` [T] the place of each token.

    Padding repeats some token, and `is_real` [P] says which places are none. All are None where the row is one group
    without padding.
    """

    groups: tuple[PaddedGroup, ...]
    places: Tensor | None
    back: Tensor | None
    is_real: Tensor | None

    def pad(self, x: Tensor) -> Tensor:
        """[heads, T, d] as [heads, P, d]."""
        return x if self.places is None else x.index_select(1, self.places)

    def unpad(self, x: Tensor) -> Tensor:
        """[heads, P, d] as [heads, T, d]."""
        return x if self.back is None else x.index_select(1, self.back)


@lru_cache(maxsize=4)  # each layer of a pass asks for the same
def arrange(lengths: tuple[int, ...]) -> Arrangement:
    """Groups of the sequences of a row by their lengths."""
    if len(set(lengths)) == 1:
        return Arrangement((PaddedGroup(0, len(lengths), lengths[0], None),), None, None, None)
    starts = list(accumulate(lengths, initial=0))
    by_length: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        by_length.setdefault(-(-length // STEP), []).append(i)
    places: list[int] = []
    back = [0] * starts[-1]
    is_real: list[bool] = []
    groups = []
    for members in by_length.values():
        longest = max(lengths[i] for i in members)
        groups.append(_group(len(places), [lengths[i] for i in members], longest))
        for i in members:
            first, length = starts[i], lengths[i]
            back[first : first + length] = range(len(places), len(places) + length)
            places += range(first, first + length)
            places += [first] * (longest - length)
            is_real += [True] * length + [False] * (longest - length)
    return Arrangement(tuple(groups), torch.tensor(places), torch.tensor(back), torch.tensor(is_real))


def _group(start: int, lengths: list[int], longest: int) -> PaddedGroup:
    sizes = torch.tensor(lengths)
    unseen = torch.arange(longest) >= sizes.unsqueeze(1)
    return PaddedGroup(
        start, len(lengths), longest, unseen.view(1, len(lengths), 1, longest) if bool(unseen.any()) else None
    )


def attend_padded(
    query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], share: float, scale: float, *, causal: bool
) -> Tensor:
    """Attention within each sequence: [heads, T, d] each in, [T, heads, d] out; dropout drops this share of weights."""
    told = arrange(lengths), share, scale, causal
    out: Tensor = _Attend.apply(query, key, value, *told)  # type: ignore[no-untyped-call]  # torch leaves it so
    return out.transpose(0, 1)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # Any: autograd's context
        query: Tensor,
        key: Tensor,
        value: Tensor,
        arranged: Arrangement,
        share: float,
        scale: float,
        causal: bool,  # autograd passes no keywords
    ) -> Tensor:
        padded = [arranged.pad(x) for x in (query * scale, key, value)]
        held: list[Tensor] = []
        outs: list[Tensor] = []
        with torch.autocast(query.device.type, enabled=False):
            for group in arranged.groups:
                q, k, v = (_of_group(x, group) for x in padded)
                scores = torch.bmm(q, k.transpose(1, 2))
                if group.unseen is not None:
                    scores.view(-1, group.count, group.length, group.length).masked_fill_(group.unseen, -torch.inf)
                if causal:
                    scores.masked_fill_(_later(group.length), -torch.inf)
                weights = torch.softmax(scores, -1)
                factors = dropout_factors(weights.shape, share, weights.dtype, weights.device)
                outs.append(_as_row(torch.bmm(weights * factors, v), group))
                held += weights, factors
        out = arranged.unpad(outs[0] if len(outs) == 1 else torch.cat(outs, 1))
        ctx.save_for_backward(*padded, *held)
        ctx.arranged, ctx.scale = arranged, scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # Any: as above
        query, key, value, *held = ctx.saved_tensors
        arranged: Arrangement = ctx.arranged
        of_out = arranged.pad(gradient)
        if arranged.is_real is not None:
            of_out = of_out * arranged.is_real.view(1, -1, 1)
        made: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for i, group in enumerate(arranged.groups):
            q, k, v, after = (_of_group(x, group) for x in (query, key, value, of_out))
            weights, factors = held[2 * i : 2 * i + 2]
            of_weights = torch.bmm(after, v.transpose(1, 2)).mul_(factors)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            made[0].append(_as_row(torch.bmm(of_scores, k).mul_(ctx.scale), group))
            made[1].append(_as_row(torch.bmm(of_scores.transpose(1, 2), q), group))
            made[2].append(_as_row(torch.bmm((weights * factors).transpose(1, 2), after), group))
        of_all = (arranged.unpad(one[0] if len(one) == 1 else torch.cat(one, 1)) for one in made)
        return *of_all, None, None, None, None


def _of_group(x: Tensor, group: PaddedGroup) -> Tensor:
    """[heads, P, d] as the group's [heads * count, length, d]."""
    part = x[:, group.start : group.start + group.count * group.length]
    return part.reshape(-1, group.length, x.shape[-1])


def _as_row(x: Tensor, group: PaddedGroup) -> Tensor:
    """[heads * count, length, d] as [heads, count * length, d]."""
    return x.view(-1, group.count * group.length, x.shape[-1])


def _later(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).triu_(1)
