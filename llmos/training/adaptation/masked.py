"""Masked language modelling (Devlin et al. 2019, arXiv:1810.04805): 15 % of a text's tokens are to be guessed.

Of these, 80 % are hidden, 10 % are replaced by any token, and 10 % stay as they are. Each epoch hides others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from llmos.abi.adaptation import Adaptation
from llmos.abi.error import BadInput
from llmos.nn.load import Loaded
from llmos.nn.masked_token import MaskedHead
from llmos.nn.packing import cut_rows
from llmos.nn.windows import Frame, frame_of
from llmos.tasks import Rendered
from llmos.training.adaptation import Learner, TextLoss, Windows
from llmos.training.candidate import Candidate
from llmos.training.examples import Example

HIDDEN, REPLACED = 0.8, 0.1


@dataclass(frozen=True, slots=True)
class MaskedTarget:
    """The places of the tokens to be guessed, and these tokens."""

    places: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Masking:
    """How tokens are chosen and hidden. The number chosen follows from a window's length alone."""

    share: float
    mask: int
    vocabulary: int
    frame: Frame

    def count(self, length: int) -> int:
        """How many tokens of a window of this length are to be guessed: one at least."""
        return max(1, round(self.share * (length - self.frame.size)))

    def hide(self, ids: Sequence[int], places: Sequence[int], chance: random.Random) -> Example[MaskedTarget]:
        """The window with these places to be guessed."""
        read = list(ids)
        for at in places:
            drawn = chance.random()
            if drawn < HIDDEN:
                read[at] = self.mask
            elif drawn < HIDDEN + REPLACED:
                read[at] = chance.randrange(self.vocabulary)
        return Example(Rendered(read), MaskedTarget(tuple(places), tuple(ids[at] for at in places)))

    def draw(self, ids: Sequence[int], chance: random.Random) -> Example[MaskedTarget]:
        """The window with places chosen by chance."""
        places = chance.sample(self.frame.places(len(ids)), self.count(len(ids)))
        return self.hide(ids, sorted(places), chance)

    def each_in_turn(self, ids: Sequence[int], rounds: int, seed: str) -> list[Example[MaskedTarget]]:
        """The window several times, each with other places; the same ones for a seed."""
        chance = random.Random(seed)
        order = list(self.frame.places(len(ids)))
        chance.shuffle(order)
        size = self.count(len(ids))
        groups = [order[i : i + size] for i in range(0, len(order), size)]
        return [self.hide(ids, sorted(group), chance) for group in groups[:rounds]]


class MaskedExamples(Sequence[Example[MaskedTarget]]):
    """Windows that are masked anew whenever one is taken, by torch's generator, which workers seed at each step."""

    def __init__(self, windows: Sequence[list[int]], masking: Masking) -> None:
        self._windows, self._masking = windows, masking

    def __len__(self) -> int:
        return len(self._windows)

    @overload
    def __getitem__(self, index: int) -> Example[MaskedTarget]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example[MaskedTarget]]: ...
    def __getitem__(self, index: int | slice) -> Example[MaskedTarget] | Sequence[Example[MaskedTarget]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        seed = int(torch.randint(1 << 62, (1,)))
        return self._masking.draw(self._windows[index], random.Random(seed))


class MaskedTokenLoss:
    """Cross-entropy of each token that is to be guessed."""

    prefers_later = False

    def __init__(self, head: MaskedHead) -> None:
        self.head = head

    def normalizer(self, examples: Sequence[Example[MaskedTarget]]) -> float:
        return float(sum(len(one.target.places) for one in examples))

    def __call__(self, given: Tensor, examples: Sequence[Example[MaskedTarget]]) -> Tensor:
        return self.head.sum_losses(*_with_targets(given, examples))


def _with_targets(given: Tensor, examples: Sequence[Example[MaskedTarget]]) -> tuple[Tensor, Tensor]:
    """The hidden states at the places to be guessed, and the tokens there."""
    places, start = [], 0
    for one in examples:
        places += [start + at for at in one.target.places]
        start += one.size
    tokens = [token for one in examples for token in one.target.tokens]
    return given[torch.tensor(places, device=given.device)], torch.tensor(tokens, device=given.device)


def learner(wanted: Adaptation, loaded: Loaded, source: str, pooling: str, texts: Sequence[Windows]) -> Learner:
    if loaded.is_causal or loaded.causal is not None:
        raise BadInput(
            f"{wanted.base} reads from left to right, so hidden tokens cannot be guessed from both sides. Leave the "
            "objective out, or take causal (for bases that write) or contrastive",
            key="objective",
            value=wanted.objective,
        )
    masking_of(wanted, loaded)
    head = MaskedHead(loaded)
    has_own = head.read(Path(source), str(loaded.config.model_type))
    if not has_own:
        tokens = torch.tensor([token for windows in texts for ids in windows for token in ids])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(wanted.seed)
            head.start(torch.bincount(tokens, minlength=head.vocabulary))
    head.to(loaded.device)
    return Learner(head, not has_own, MaskedTokenLoss(head))


def masking_of(wanted: Adaptation, loaded: Loaded) -> Masking:
    """How this base's tokens are hidden; BadInput if its tokenizer has no token for that."""
    mask = loaded.tokenizer.mask_id
    if mask is None:
        raise BadInput(
            f"The tokenizer of {wanted.base} has no mask token, so no token can be hidden. Take the objective "
            "contrastive, or another base",
            key="objective",
            value=wanted.objective,
            reason="no_mask",
        )
    return Masking(wanted.mask_share, mask, int(loaded.config.vocab_size), frame_of(loaded.tokenizer))


def examples(wanted: Adaptation, loaded: Loaded, texts: Sequence[Windows]) -> MaskedExamples:
    return MaskedExamples([ids for windows in texts for ids in windows], masking_of(wanted, loaded))


@torch.inference_mode()
def measure(wanted: Adaptation, candidate: Candidate, texts: Sequence[Windows], *, rounds: int = 1) -> list[TextLoss]:
    masking, head = masking_of(wanted, candidate.loaded), candidate.head
    assert isinstance(head, MaskedHead)
    owners, drawn = [], []
    for i, windows in enumerate(texts):
        for number, ids in enumerate(windows):
            made = masking.each_in_turn(ids, rounds, f"{wanted.seed} held {i} {number}")
            owners += [i] * len(made)
            drawn += made
    totals, counts = [0.0] * len(texts), [0] * len(texts)
    lengths = [one.size for one in drawn]
    order = sorted(range(len(drawn)), key=lengths.__getitem__)
    for row in cut_rows(order, lengths, wanted.spec.token_budget):
        some = [drawn[i] for i in row]
        losses = head.losses(*_with_targets(candidate.logits([one.ids for one in some]), some))
        for i, part in zip(row, torch.split(losses, [len(one.target.places) for one in some]), strict=True):
            totals[owners[i]] += float(part.sum())
            counts[owners[i]] += len(part)
    return [TextLoss(total, count) for total, count in zip(totals, counts, strict=True)]
