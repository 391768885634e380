"""Trials that train together: one process, one base, one packed row in each step, and checkpoints of one moment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from llmos.abi.frame import Job
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe
from llmos.abi.tuning import active_of, recipes_of
from llmos.evaluation.evaluator import Evaluator
from llmos.programs.channel import Channel
from llmos.programs.train import Examples, Training
from llmos.training.candidate import begin_several
from llmos.training.checkpoint_set import CheckpointSet
from llmos.training.trainer import Trainer
from llmos.training.trainer_pack import PackHooks, RunOfPack, TrainerPack, can_share_rows

FOLDER = "packed"


@dataclass(frozen=True, slots=True)
class RungTraining:
    """What a training to a rung has given: metrics by number, without those that failed, and what it took."""

    metrics: dict[int, float]
    trained_s: float  # in this life of the process
    steps: int


class TrialPack:
    """The trials of a process, of which `active` work now."""

    def __init__(self, channel: Channel, job: Job, first: Training) -> None:
        self.channel, self.job, self.first = channel, job, first
        self.active = active_of(job.args)
        recipes: dict[int, Recipe] = recipes_of(job.args)
        self.trainings = {number: first.with_recipe(recipes[number]) for number in self.active}
        self.checkpoints = CheckpointSet(Path(job.scratch) / FOLDER)

    def reach(self, share: float) -> RungTraining | None:
        """Train the active trials until this share of each run is behind; None if the process was asked to stop."""
        runs = self._runs(share)
        before_s = sum(one.trainer.position.trained_s for one in runs.values())
        if not self._train(list(runs.values())):
            return None
        for number, run in runs.items():
            if run.fault:
                print(f"Trial {number}: {run.fault}", flush=True)
        metrics = {number: metric_of(run.trainer) for number, run in runs.items() if not run.fault}
        positions = [one.trainer.position for one in runs.values()]
        trained_s = sum(one.trained_s for one in positions) - before_s
        return RungTraining(metrics, trained_s, sum(one.step for one in positions))

    def finish(self) -> None:
        """Make the one active trial a candidate: only now it reads the test rows."""
        (training,) = self.trainings.values()
        training.remarks = self.first.remarks
        ((evaluator, run),) = self._begin(1.0).values()
        run.trainer.around = replace(run.trainer.around, report=self.channel.report)
        evaluator.examples(training.data.splits.test)  # a row that is too long is refused now
        dataset = training.offer_dataset()
        if run.trainer.train():
            training.finish(evaluator, run.trainer, dataset)

    def _stop_asked(self) -> bool:
        return self.channel.stop_asked

    def _train(self, runs: list[RunOfPack]) -> bool:
        def save() -> None:
            self.checkpoints.write({number: one.trainer for number, one in zip(self.active, runs, strict=True)})

        def report(rate: float) -> None:
            done = sum(min(one.trainer.position.step, one.target) for one in runs)
            figures = {"trials": float(len(runs)), "rate": rate}
            self.channel.report(Progress("train", done, sum(one.target for one in runs), "steps", figures))

        hooks = PackHooks(save, report, self._stop_asked)
        if can_share_rows([one.trainer.candidate for one in runs]):
            return TrainerPack(runs, hooks).train()
        return all(TrainerPack([one], hooks).train() for one in runs)

    def _runs(self, share: float) -> dict[int, RunOfPack]:
        return {number: run for number, (_, run) in self._begin(share).items()}

    def _begin(self, share: float) -> dict[int, tuple[Evaluator, RunOfPack]]:
        """The trainers of the active trials where their checkpoints are, each with its target."""
        recipes = [one.recipe for one in self.trainings.values()]
        labels, dtype = len(self.first.data.splits.labels), self.first.recipe.dtype or "float32"
        candidates = begin_several(self.first.base, recipes, labels, dtype, self.job.device)
        examples: tuple[Examples, Examples] | None = None
        made: dict[int, tuple[Evaluator, RunOfPack]] = {}
        for (number, training), candidate in zip(self.trainings.items(), candidates, strict=True):
            fit = replace(training.fitting(self._stop_asked), report=partial(_print_message, number))
            if examples is None:  # all tokenize alike
                examples = training.examples(fit.begin(candidate))
            evaluator, trainer = training.begin_on(fit, candidate, *examples)
            if self.checkpoints.read_into(number, trainer):
                print(f"Trial {number} goes on from step {trainer.position.step:,}", flush=True)
            made[number] = evaluator, RunOfPack(trainer, max(1, round(share * trainer.total)))
        return made


def _print_message(number: int, progress: Progress) -> None:
    """What a run of several says of itself: its epochs go to the log, its steps are told for all together."""
    if progress.message:
        print(f"Trial {number}, {progress.message}", flush=True)


def metric_of(run: Trainer) -> float:
    """The validation metric of what a trial would give now: its best epoch if that would be kept, else its weights."""
    position = run.position
    if position.marks and position.marks[-1].step == position.step:
        present = position.marks[-1].metric
    else:
        assert run.around.validate is not None, "trials are compared on validation rows"
        run.candidate.train(False)
        present = run.around.validate()
    return max(present, position.best_metric) if run.keeps_best and position.marks else present
