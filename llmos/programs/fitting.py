"""One fit of a training run: a fresh candidate, its examples, and the trainer that goes on from its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.frame import Job, ModelPath
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe, distillation_of
from llmos.abi.task import is_generative
from llmos.data.dataset import LoadedData
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.predictions import predict
from llmos.tasks import Settings
from llmos.training.candidate import Candidate, begin
from llmos.training.checkpoint import Checkpoints
from llmos.training.consistency import ConsistencyLoss, read_twice
from llmos.training.distillation import SoftLabelLoss, SoftManyLabelsLoss, SoftTarget
from llmos.training.examples import Example
from llmos.training.losses import balance_labels
from llmos.training.objectives import loss_of
from llmos.training.objectives.objective import Loss
from llmos.training.soft_labels import BY_RULES
from llmos.training.trainer import Hooks, Trainer

Report = Callable[[Progress], None]
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True)
class Fitting:
    """What all fits of a run have in common; `stop_asked` says whether to write a checkpoint and end."""

    job: Job
    recipe: Recipe
    data: LoadedData
    base: ModelPath
    report: Report
    stop_asked: Callable[[], bool]

    def begin(self, candidate: Candidate | None = None) -> Evaluator:
        """The evaluator of this candidate, or of a fresh one on the base."""
        recipe, labels = self.recipe, self.data.splits.labels
        if candidate is None:
            candidate = begin(self.base, recipe, len(labels), recipe.dtype or "float32", self.job.device)
        return Evaluator(candidate, recipe.task, self._settings(candidate))

    def trainer(
        self,
        evaluator: Evaluator,
        train: Sequence[Example[Any]],
        digest: str,
        folder: str = CHECKPOINTS,
        *,
        validation: Sequence[Example[Any]] | None = None,
        views: Sequence[Example[Any]] = (),
    ) -> Trainer:
        """A trainer on these examples that has read no checkpoint yet.

        `validation`: the validation rows' examples, where they are not what the evaluator makes of them. `views`: texts
        without labels, with a changed copy each.
        """
        rows, candidate = self.data.splits.validation, evaluator.candidate
        held = evaluator.examples(rows) if validation is None else validation

        def validate() -> float:
            predicted = predict(candidate, self.recipe.task, held, evaluator.settings)
            return evaluator.primary_metric(rows, predicted)

        loss, last = self._loss(candidate, train), validate if rows else None
        if self.recipe.consistency:
            loss, train = ConsistencyLoss(loss, self.recipe.consistency), read_twice(train)
        return self._trainer(candidate, loss, train, self.recipe, digest, folder, last, len(rows), views)

    def fit(
        self,
        evaluator: Evaluator,
        train: Sequence[Example[Any]],
        digest: str,
        folder: str = CHECKPOINTS,
        views: Sequence[Example[Any]] = (),
    ) -> tuple[Trainer, bool]:
        """Train on these examples, from the checkpoint in this folder if there is one; whether it came to its end."""
        return go_on(self.trainer(evaluator, train, digest, folder, views=views))

    def trainer_by(
        self,
        candidate: Candidate,
        loss: Loss,
        train: Sequence[Example[Any]],
        recipe: Recipe,
        digest: str,
        folder: str,
    ) -> Trainer:
        """A trainer by this loss and recipe, without validation, that has read no checkpoint yet."""
        return self._trainer(candidate, loss, train, recipe, digest, folder, None)

    def _trainer(
        self,
        candidate: Candidate,
        loss: Loss,
        train: Sequence[Example[Any]],
        recipe: Recipe,
        digest: str,
        folder: str,
        validate: Callable[[], float] | None,
        validation_rows: int = 0,
        views: Sequence[Example[Any]] = (),
    ) -> Trainer:
        place = Checkpoints(Path(self.job.scratch) / folder)
        hooks = Hooks(self.report, self.stop_asked, validate, validation_rows=validation_rows)
        if views:
            from llmos.training.views import ViewTrainer  # what other runs do not need

            labels = len(self.data.splits.labels)
            return ViewTrainer(candidate, loss, train, recipe, place, hooks, digest, views=views, labels=labels)
        return Trainer(candidate, loss, train, recipe, place, hooks, digest)

    def _loss(self, candidate: Candidate, train: Sequence[Example[Any]]) -> Loss:
        """The task's loss; with a teacher, or labels by rules, that of their soft targets."""
        recipe, labels = self.recipe, len(self.data.splits.labels)
        if recipe.teacher and not is_generative(recipe.task):
            how = distillation_of(recipe)
            many = bool(recipe.options.get("multi_label", False))
            return SoftManyLabelsLoss(how, labels) if many else SoftLabelLoss(how)
        if train and isinstance(train[0].target, SoftTarget):
            return SoftLabelLoss(BY_RULES)
        weights = None
        if recipe.class_weights == "balanced":
            weights = balance_labels(train, labels).to(candidate.device)
        return loss_of(recipe, labels, weights, candidate.head)

    def in_epochs(self, epochs: float) -> Fitting:
        """The same with so many epochs."""
        return replace(self, recipe=replace(self.recipe, epochs=epochs))

    def _settings(self, candidate: Candidate) -> Settings:
        limit = candidate.loaded.max_tokens
        asked = self.recipe.options.get("max_tokens")
        if asked is not None and not 8 <= int(asked) <= limit:
            raise BadInput(f"max_tokens is {asked}; this base takes from 8 to {limit:,}", key="max_tokens", limit=limit)
        return Settings(self.data.splits.labels, self.recipe.options, limit)


def go_on(trainer: Trainer) -> tuple[Trainer, bool]:
    """Train from the checkpoint, if there is one; whether it came to its end."""
    if trainer.resume():
        print(f"Goes on from step {trainer.position.step:,}", flush=True)
    return trainer, trainer.train()
