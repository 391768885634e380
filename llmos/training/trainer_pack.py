"""Several training runs on one frozen base in the same passes: each step packs a batch of every run into one row.

The base computes for all at once, and what a step costs beside its products is paid once. Each run has its own head,
adapter, rows, learning rate and optimizer, and learns what it would learn alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmos.abi.error import BadSetting
from llmos.abi.recipe import shares_of
from llmos.nn.adapters.grouped import training_segments
from llmos.nn.packing import cut_rows, fill, forward, has_own_attention, pack
from llmos.training.candidate import Candidate
from llmos.training.gradient_workers import GradientWorkers, cut_evenly
from llmos.training.trainer import Trainer


@dataclass(slots=True)
class RunOfPack:
    """A run and the step that it is to reach. `fault` says why it cannot go on."""

    trainer: Trainer
    target: int
    fault: str = ""
    offset: int = field(default=0)  # of its examples among those of all runs

    @property
    def is_there(self) -> bool:
        return bool(self.fault) or self.trainer.position.step >= self.target or self.trainer.is_over


@dataclass(frozen=True, slots=True)
class PackHooks:
    """The pack's callbacks: writing checkpoints, progress with examples a second, whether to stop, and the clock."""

    save: Callable[[], None]
    report: Callable[[float], None]
    stop_asked: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic


class TrainerPack:
    """Trains these runs to their targets. They share a backbone, its device and its dtype."""

    def __init__(self, runs: Sequence[RunOfPack], hooks: PackHooks) -> None:
        self.runs, self.hooks = runs, hooks
        self.lengths: list[int] = []
        for one in runs:
            one.offset = len(self.lengths)
            self.lengths += one.trainer.lengths
        first = runs[0].trainer
        self.loaded = first.candidate.loaded
        assert all(one.trainer.candidate.loaded.backbone is self.loaded.backbone for one in runs), "one base"
        self.token_budget = max(one.trainer.token_budget for one in runs)
        self._owners = torch.tensor([i for i, one in enumerate(runs) for _ in one.trainer.lengths])

    def train(self) -> bool:
        """Train until every run is at its target, and return True; or save when asked to stop, and return False."""
        with self.workers() as crew:
            return self._train(crew)

    @contextmanager
    def workers(self) -> Iterator[GradientWorkers]:
        """What computes the gradients of a step of all runs, to be entered."""
        for one in self.runs:
            one.trainer.candidate.train()
        first = self.runs[0].trainer
        size = shares_of(
            first.position.threads, sum(one.trainer.size for one in self.runs), first.candidate.device.type
        )
        weights = {
            f"{i}/{name}": weight for i, one in enumerate(self.runs) for name, weight in one.trainer.weights.items()
        }
        with (
            first.frozen.computing(),
            GradientWorkers(weights, set(), self._gradients, size, first.recipe.seed, self._cut) as crew,
        ):
            yield crew

    def _train(self, crew: GradientWorkers) -> bool:
        clock = self.hooks.clock
        saved_at = clock()
        while any(not one.is_there for one in self.runs):
            began = clock()
            active = self.step(crew)
            now = clock()
            for one in active:
                one.trainer.position.trained_s += (now - began) / len(active)
                if not one.fault:
                    one.trainer.end_step()
            self.hooks.report(sum(one.trainer.size for one in active) / max(now - began, 1e-9))
            if self.hooks.stop_asked() or now - saved_at >= self.runs[0].trainer.recipe.checkpoint_every_s:
                self.hooks.save()
                saved_at = clock()
            if self.hooks.stop_asked():
                return False
        self.hooks.save()
        return True

    def step(self, crew: GradientWorkers) -> list[RunOfPack]:
        """A step of each run that is not at its target; returns these runs. One whose loss is no number has a fault."""
        active = [one for one in self.runs if not one.is_there]
        batch: list[int] = []
        normalizers = [1.0] * len(self.runs)
        for i, one in enumerate(self.runs):
            if not one.is_there:
                mine = one.trainer.next_batch()
                normalizers[i] = one.trainer.normalizer(mine)
                batch += (one.offset + index for index in mine)
        drawn = sum(one.trainer.position.step for one in self.runs)  # which follows from what a checkpoint holds
        losses = crew.gradients(drawn, batch, self.lengths, normalizers)
        for one, loss in zip(self.runs, losses, strict=True):
            if one in active:
                try:
                    one.trainer.apply(loss, {})
                except BadSetting as error:
                    one.fault = error.message
                    one.trainer.optimizer.clear()
        return active

    def _cut(self, batch: Sequence[int], lengths: Sequence[int], size: int) -> list[list[int]]:
        """Shares of about equally many tokens, of whole runs but for those that are cut."""
        order = sorted(batch, key=lambda index: (int(self._owners[index]), lengths[index]))
        return cut_evenly(order, lengths, size)

    def _gradients(self, batch: Sequence[int], normalizers: Sequence[float]) -> list[float]:
        """Accumulate the gradients of these examples in rows of at most the token budget; returns each run's loss."""
        losses = [0.0] * len(self.runs)
        for row in cut_rows(batch, self.lengths, self.token_budget):
            total: Tensor | None = None
            for i, loss in self._losses(row, normalizers).items():
                losses[i] += float(loss.detach())
                total = loss if total is None else total + loss
            assert total is not None, "a row has examples"
            total.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        return losses

    def _losses(self, row: Sequence[int], normalizers: Sequence[float]) -> Mapping[int, Tensor]:
        """The loss of each run in this row, by one pass of the base."""
        groups: dict[int, list[int]] = {}
        for index in row:
            groups.setdefault(int(self._owners[index]), []).append(index)
        sequences: list[Sequence[int]] = []
        segments, states_of = [], {}
        start = 0
        is_filled = self._is_filled
        for i, indices in groups.items():
            run = self.runs[i]
            examples = [run.trainer.examples[index - run.offset] for index in indices]
            mine = [ids for one in examples for ids in one.sequences]
            sequences += fill(mine) if is_filled else mine
            end = start + sum(map(len, mine))
            states_of[i] = examples, mine, start, end
            start = sum(map(len, sequences))
            adapter = run.trainer.candidate.adapter
            assert adapter is not None, "a run of a pack trains an adapter"
            segments.append((adapter, states_of[i][2], start))
        candidate = self.runs[0].trainer.candidate
        with candidate.computing_plain(), training_segments(segments):
            states = forward(self.loaded.backbone, pack(sequences, candidate.device)).float()
        found: dict[int, Tensor] = {}
        for i, (examples, mine, first, end) in states_of.items():
            trainer = self.runs[i].trainer
            logits = trainer.candidate.head(states[first:end], [len(ids) for ids in mine])
            found[i] = trainer.loss(logits, examples) / normalizers[i]
        return found

    @property
    def _is_filled(self) -> bool:
        """Whether each run's tokens are filled up, since a new shape of a product in bfloat16 is compiled anew."""
        candidate = self.runs[0].trainer.candidate
        is_mixed = candidate.amp is not None and candidate.device.type == "cpu"
        return is_mixed and not has_own_attention(self.loaded.backbone)


def can_share_rows(candidates: Sequence[Candidate]) -> bool:
    """Whether these candidates on one base can be trained in one row: all its layers see the row's tokens in order."""
    loaded = candidates[0].loaded
    are_mixable = all(one.adapter is not None and one.adapter.is_mixable for one in candidates)
    return are_mixable and loaded.reader is None and not has_own_attention(loaded.backbone)
