"""The trainer: packed micro-batches, one optimizer step a batch, validation and early stopping after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmos.abi.error import BadSetting
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe, shares_of
from llmos.nn.frozen_linear import CopiedLinears
from llmos.training.candidate import Candidate
from llmos.training.checkpoint import Checkpoints, EpochRecord, TrainState
from llmos.training.examples import Example, batches, passes
from llmos.training.frozen_states import states_for
from llmos.training.gradient_workers import GradientWorkers
from llmos.training.mixed_precision import MixedWeights
from llmos.training.objectives.objective import Loss
from llmos.training.optimizer import Optimizer, factor_at

LOSSES_KEPT = 200
METHOD = "~method/"  # of names in a checkpoint's moments that are the method's own state
OWN = "~"  # of all names there that are not the optimizer's


@dataclass(frozen=True, slots=True)
class Hooks:
    """The trainer's callbacks: progress, whether to stop, the validation metric if there is one, and the clock.

    `validation_rows`: how many rows the metric is a mean of; 0 if the best epoch is the best however few they are.
    """

    report: Callable[[Progress], None]
    stop_asked: Callable[[], bool]
    validate: Callable[[], float] | None
    clock: Callable[[], float] = time.monotonic
    validation_rows: int = 0


class Trainer:
    """One training run, from its start or its checkpoint."""

    def __init__(
        self,
        candidate: Candidate,
        loss: Loss,
        examples: Sequence[Example[Any]],  # Any: the target of the task's family
        recipe: Recipe,
        checkpoints: Checkpoints,
        around: Hooks,
        digest: str,
        *,
        beside: Sequence[Example[Any]] = (),  # examples that no epoch counts; a kind of trainer draws them
    ) -> None:
        assert recipe.batch_size is not None
        assert recipe.epochs is not None
        assert recipe.token_budget is not None
        self.candidate, self.loss, self.recipe = candidate, loss, recipe
        self.examples, self.counted = (*examples, *beside), len(examples)
        self.checkpoints, self.around = checkpoints, around
        self.weights = candidate.weights()
        self.tables = candidate.sparse_tables()
        backbone, output = candidate.loaded.backbone, candidate.output
        self.mixed = MixedWeights(backbone, self.weights if candidate.is_mixed else {}, output)
        self.frozen = CopiedLinears(backbone, "bfloat16", output, is_used=candidate.computes_copies)
        self.optimizer = Optimizer(self.weights, self.tables, recipe, self.mixed)
        self.lengths = [one.size for one in self.examples]
        self.size, self.token_budget = recipe.batch_size, recipe.token_budget
        self.epoch_steps = math.ceil(len(examples) / self.size)
        self.total = max(1, round(recipe.epochs * self.epoch_steps))
        self.best: dict[str, Tensor] = {}
        self._order: tuple[int, list[list[int]]] | None = None  # an epoch and its batches
        self.states = states_for(candidate, examples)
        self.position = TrainState(threads=torch.get_num_threads(), recipe_digest=digest)

    def resume(self) -> bool:
        """Load the newest checkpoint; False if there is none."""
        held = self.checkpoints.read(self.position.recipe_digest)
        if held is None:
            return False
        self.position, self.best = held.position, held.best
        torch.set_num_threads(self.position.threads)
        self._put(held.weights)
        own = {key: x for key, x in held.moments.items() if key.startswith(OWN)}
        moments = {key: x for key, x in held.moments.items() if key not in own}
        self.load_own_state(own)
        self.optimizer.load(moments)
        return True

    def train(self) -> bool:
        """Train to the end and return True, or to a checkpoint when asked to stop and return False."""
        if not self._compute_states():
            return False
        with self._on_one_thread() if self._has_states else nullcontext(), self.workers() as crew:
            is_done = self._train(crew)
        if is_done and self.keeps_best and self.best:
            self._put(self.best)
        return is_done

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best epoch are kept at the end, and not the last ones."""
        return self.recipe.save_best and self.position.keeps_best(self.around.validation_rows)

    @property
    def kept_step(self) -> int:
        """The step whose weights are kept at the end."""
        return self.position.best_step if self.keeps_best else self.position.step

    @property
    def _has_states(self) -> bool:
        return self.states is not None and self.states.is_kept

    @contextmanager
    def _on_one_thread(self) -> Iterator[None]:
        """A head's products are too small for threads, which would wait for each other most of the time."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def _compute_states(self) -> bool:
        """What a head alone needs of its base, once; False if the run was asked to stop meanwhile."""
        if self.states is None or self.states.is_kept:
            return True

        def on_done(done: int, count: int) -> bool:
            self.around.report(Progress("encode", done, count, "texts"))
            return self.around.stop_asked()

        self.candidate.train(False)
        return self.states.compute(on_done)

    @contextmanager
    def workers(self) -> Iterator[GradientWorkers]:
        """What computes the gradients of a batch, to be entered; as many as the recipe and the machine allow."""
        size = shares_of(self.position.threads, self.size, self.candidate.device.type)
        if self._has_states:
            size = 1  # a head alone is too little work to share
        with (
            self.frozen.computing(),
            self.mixed.computing() as copies,
            GradientWorkers({**self.weights, **copies}, self.tables, self._gradients, size, self.recipe.seed) as crew,
        ):
            yield crew

    def _train(self, crew: GradientWorkers) -> bool:
        position = self.position
        saved_at = self.around.clock()
        self.candidate.train()
        while not self.is_over:
            began = self.around.clock()
            self.step(crew, self.next_batch())
            now = self.around.clock()
            position.trained_s += now - began
            self.end_step()
            if self.around.stop_asked() or now - saved_at >= self.recipe.checkpoint_every_s:
                self.save()
                saved_at = self.around.clock()
            if self.around.stop_asked():
                return False
        return True

    @property
    def is_over(self) -> bool:
        """Whether no step is left, or an epoch's end has shown that more would not help."""
        return self.position.step >= self.total or self._should_stop_early()

    def next_batch(self) -> list[int]:
        """The examples of the next step. Their order follows from seed and epoch."""
        epoch, step = divmod(self.position.step, self.epoch_steps)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, batches(self.lengths[: self.counted], self.size, self.recipe.seed, epoch)
        return self._order[1][step]

    def end_step(self) -> None:
        """Report, and validate at the end of an epoch and of the run."""
        self._report()
        if self.position.step % self.epoch_steps == 0 or self.position.step == self.total:
            self._mark()

    def save(self) -> None:
        """Write a checkpoint of the current state."""
        self.checkpoints.write(self.position, self.weights, self.optimizer.state() | self.own_state(), self.best)

    def own_state(self) -> dict[str, Tensor]:
        """What goes on beside weights and optimizer, by names that begin with OWN: the method's state."""
        tuned = self.candidate.tuned
        return {} if tuned is None else {f"{METHOD}{key}": x for key, x in tuned.state().items()}

    def load_own_state(self, own: dict[str, Tensor]) -> None:
        """Go on from what `own_state` gave."""
        if self.candidate.tuned is not None:
            self.candidate.tuned.load_state({key.removeprefix(METHOD): x for key, x in own.items()})

    def _gradients(self, batch: Sequence[int], normalizers: Sequence[float]) -> list[float]:
        """Accumulate the gradients of these examples, micro-batch by micro-batch; returns their part of the step's
        loss."""
        total, (normalizer,) = 0.0, normalizers
        parts = list(passes(batch, self.lengths, self.token_budget))
        for i, part in enumerate(parts, start=1):
            loss = self._loss(part, normalizer)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
            total += float(loss.detach())
            if len(parts) > 1:
                self.mixed.add_up(is_last=i == len(parts))
        return [total]

    def _loss(self, part: Sequence[int], normalizer: float) -> Tensor:
        """What these examples add to the loss of the step."""
        examples = [self.examples[index] for index in part]
        return self.loss(self._logits(part, examples), examples) / normalizer

    def _logits(self, part: Sequence[int], examples: Sequence[Example[Any]]) -> Tensor:
        if self.states is not None and self.states.is_kept:
            return self.states.logits(part)
        return self.candidate.logits([ids for one in examples for ids in one.sequences])

    def step(self, crew: GradientWorkers, batch: Sequence[int]) -> None:
        """One step of the optimizer on one batch; BadSetting if the loss is no number."""
        (total,) = crew.gradients(self.position.step, batch, self.lengths, [self.normalizer(batch)])
        self.apply(total, crew.parts)

    def normalizer(self, batch: Sequence[int]) -> float:
        """What the loss of a batch is divided by."""
        return max(self.loss.normalizer([self.examples[i] for i in batch]), 1e-9)

    def apply(self, total: float, parts: Mapping[str, Sequence[Tensor]]) -> None:
        """Step by the gradients that were computed, those of the loss `total`; BadSetting if it is no number.

        `parts` are the gradients of bfloat16 weights, to be summed.
        """
        if not math.isfinite(total):
            raise BadSetting(
                f"The loss is {total} at step {self.position.step + 1:,}: training has diverged. Lower the "
                f"learning rate (it was {self.recipe.learning_rate:g})",
                key="learning_rate",
                value=self.recipe.learning_rate,
                expected="a lower rate",
            )
        share = factor_at(self.position.step, self.total, self.recipe.warmup_share, self.recipe.schedule)
        tuned = self.candidate.tuned
        if tuned is None:
            self.optimizer.step(share, parts)
        else:
            tuned.add_gradients()
            self.optimizer.step(share, parts, lambda: tuned.after_step(self.position.step + 1, self.total))
        self.position.step += 1
        self.position.loss_sum += total
        if self.position.step % max(1, self.total // LOSSES_KEPT) == 0:
            self.position.losses.append((self.position.step, total))

    def _mark(self) -> None:
        """End an epoch: validate, if there is something to validate on, and keep the weights if they are the best."""
        position = self.position
        if self.around.validate is None:
            loss = position.loss_sum / ((position.step - 1) % self.epoch_steps + 1)
            position.loss_sum = 0.0
            self._report(f"epoch {position.step / self.epoch_steps:.3g}: loss {loss:.4f}")
            return
        self.candidate.train(False)
        metric = self.around.validate()
        self.candidate.train()
        steps = (position.step - 1) % self.epoch_steps + 1
        epoch = position.step / self.epoch_steps
        position.marks.append(EpochRecord(position.step, epoch, position.loss_sum / steps, metric))
        position.loss_sum = 0.0
        is_equal = metric == position.best_metric and self.loss.prefers_later
        if metric > position.best_metric or is_equal:
            position.best_metric, position.best_step = metric, position.step
            if self.recipe.save_best:
                self.best = {name: p.detach().clone() for name, p in self.weights.items()}
        self._report(f"epoch {epoch:.3g}: loss {position.marks[-1].loss:.4f}, validation {metric:.4f}")

    def _should_stop_early(self) -> bool:
        marks = self.position.marks
        if self.recipe.patience is None or not marks:
            return False
        since = sum(mark.step > self.position.best_step for mark in marks)
        return since >= self.recipe.patience

    def _report(self, message: str = "") -> None:
        position = self.position
        rate = position.step * self.size / max(position.trained_s, 1e-9)
        figures = {
            "loss": position.losses[-1][1] if position.losses else 0.0,
            "rate": rate,
            "eta_s": (self.total - position.step) * self.size / rate,
            "epoch": position.step / self.epoch_steps,
        }
        if position.marks:
            figures["metric"] = position.marks[-1].metric
        self.around.report(Progress("train", position.step, self.total, "steps", figures, message))

    def _put(self, held: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.weights.items():
                parameter.copy_(held[name])
