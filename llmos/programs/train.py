"""train: from a recipe to a candidate with its evidence and the gate's verdict, all of it offered to the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.objective import objective_in, takes_preferences
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe, check, identity_of
from llmos.abi.task import spec_of
from llmos.abi.wire import from_plain, to_plain
from llmos.data.dataset import LoadedData, gather, keep
from llmos.data.datasets.dataset_reader import row_options
from llmos.data.families import rows_of
from llmos.evaluation.evaluator import Evaluator
from llmos.nn.frozen_linear import exactly
from llmos.nn.text.unknown_text import unknown_note
from llmos.programs.augment_training import AugmentedTraining, augment_training, fitting
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_version import offer_dataset
from llmos.programs.few_labels import choose_start, fit_on_frozen, for_few_rows, train_by_pairs
from llmos.programs.finish import Finish, Remarks, parents_of
from llmos.programs.fitting import CHECKPOINTS, Fitting, go_on
from llmos.programs.method_choice import with_method
from llmos.programs.preference_training import reading_options, with_form, with_objective
from llmos.programs.resident import with_resident
from llmos.programs.teaching import Lessons, lessons_of
from llmos.programs.tracking import begin_tracking, track_figures
from llmos.programs.weak_training import weak_digest, with_soft_labels
from llmos.training.candidate import Candidate
from llmos.training.examples import Example
from llmos.training.recipe import resolve
from llmos.training.trainer import Trainer

if TYPE_CHECKING:
    from llmos.training.trackers.tracker import Tracker

Examples = Sequence[Example[Any]]  # Any: the target of the task's family
SAMPLE_ROWS = 2_000  # whose texts are looked at for what the base's tokenizer does not know
DATASET_OFFER, MODEL_OFFER = 1, 2
VERSIONS = ("llmos", "torch", "transformers", "peft", "tokenizers")


def main(channel: Channel, assignment: Job) -> None:
    """Train to the end, or to a checkpoint when asked to stop; the same call again continues from there."""
    training = prepare(channel, assignment, from_plain(assignment.args, Recipe))
    if training is not None:
        training.run()


def prepare(channel: Channel, assignment: Job, recipe: Recipe) -> Training | None:
    """Read the rows, and resolve the recipe; None if the process was asked to stop meanwhile."""
    check(recipe)
    channel.report(Progress("read", unit="rows"))
    key = bytes.fromhex(assignment.row_key)
    prefers = takes_preferences(recipe.task)
    options = reading_options(recipe) if prefers else dict(recipe.options)
    data = gather(recipe.data, recipe.task, options, assignment.datasets, key=key)
    recipe = with_form(recipe, data) if prefers else replace(recipe, options={**data.options, **recipe.options})
    recipe = replace(recipe, options=_resolve_options(recipe, data, assignment.models["base"]))
    for note in data.notes:
        print(note, flush=True)
    for leak in data.leaks:
        channel.report(Progress("read", message=f"Leakage: {leak}"))
        print(f"Leakage: {leak}", flush=True)
    base = with_resident(channel, assignment, assignment.models["base"])
    try:
        recipe = with_method(channel, recipe, len(data.splits.train), base)
    except Stopped:
        print("Stopped before the first step", flush=True)
        return None
    lessons = Lessons()
    if recipe.teacher:
        try:
            data, lessons = lessons_of(channel, assignment, recipe, data)
        except Stopped:
            print("Stopped while the teacher answered; what it has not said is asked again", flush=True)
            return None
    augmented = augment_training(channel, assignment, recipe, data, base)
    factor = float(base.manifest.options.get("rate_factor", 1.0))
    count = len(data.splits.train) + len(augmented.rows) + len(lessons.unlabelled)
    recipe = resolve(recipe, count, len(data.splits.labels), factor)
    recipe = replace(recipe, dtype=recipe.dtype or assignment.dtype)
    return Training(channel, assignment, recipe, data, base, augmented, lessons)


def _resolve_options(recipe: Recipe, data: LoadedData, base: ModelPath) -> dict[str, Json]:
    """The options, with those that rows and base decide: the number of the best grade, and the pooling."""
    options = dict(recipe.options)
    for name, value in rows_of(recipe.task).options_of(recipe.task, data.splits.train).items():
        options.setdefault(name, value)
    if spec_of(recipe.task).head == "pooled":
        options.setdefault("pooling", base.manifest.options.get("pooling", "mean"))
    return options


class Training:
    """One run with its state."""

    def __init__(
        self,
        channel: Channel,
        assignment: Job,
        recipe: Recipe,
        data: LoadedData,
        base: ModelPath,
        augmented: AugmentedTraining,
        lessons: Lessons,
    ) -> None:
        self.channel, self.assignment, self.recipe, self.data = channel, assignment, recipe, data
        self.base, self.augmented, self.lessons = base, augmented, lessons
        self.scratch = Path(assignment.scratch)
        self.remarks = Remarks()
        self.tracker: Tracker | None = None
        torch.set_num_threads(assignment.threads or len(os.sched_getaffinity(0)))

    def run(self) -> None:
        """Train, and offer the candidate with its evidence."""
        is_open = self.recipe.contrastive is None
        self.recipe, self.data, self.remarks.few = for_few_rows(self.recipe, self.assignment, self.data)
        if self.remarks.few:
            self._report(Progress("read", message=self.remarks.few))
        try:
            if self.recipe.data.unlabelled and not self.recipe.teacher:
                self._run_self_trained()
            elif self.recipe.contrastive:
                self._run_by_pairs(is_open=is_open)
            else:
                self._run_once()
        finally:
            self.close()

    def _run_once(self) -> None:
        try:
            evaluator, run = self.begin(lambda: self.channel.stop_asked)
        except Stopped:
            print("Stopped before the first step; what the base says of the answers is kept", flush=True)
            return
        evaluator.examples(self.data.splits.test)  # a row that is too long is refused now
        dataset = self.offer_dataset()
        self.track()
        _, is_done = go_on(run)
        if is_done:
            self.finish(evaluator, run, dataset)

    def track(self) -> None:
        """Open the recipe's tracker, if it has one."""
        self.tracker = begin_tracking(self.recipe, self.assignment)

    def close(self) -> None:
        """Whatever is tracked is written when this returns."""
        if self.tracker is not None:
            self.tracker.close()

    def _run_self_trained(self) -> None:
        """As `_run_once`, with rows that get their labels from models of this run."""
        # what other runs do not need
        from llmos.programs.self_training import SelfTraining, labelling_fit, rows_to_learn

        fit = self.fitting(lambda: self.channel.stop_asked)
        evaluator = fit.begin()
        self._look_for_unknown_text(evaluator.candidate)
        train = [*evaluator.examples(self.data.splits.train), *fitting(evaluator, self.augmented.rows)]
        evaluator.examples([*self.data.splits.validation, *self.data.splits.test])  # too long a row is refused now
        rows = rows_to_learn(self.recipe, self.assignment, self.data)
        dataset = self.offer_dataset()
        self.track()
        learning = SelfTraining(fit, rows, self._digest(), labelling_fit(fit))
        if not (learning.run() and learning.prepare(evaluator)):
            return
        fit, run, is_done = learning.fit_last(evaluator, train)
        self.recipe, self.remarks.self_training = fit.recipe, learning.evidence()
        if is_done:
            self.finish(evaluator, run, dataset)

    def _run_by_pairs(self, *, is_open: bool) -> None:
        """As `_run_once`, by pairs of texts of one label; where that is open, if they beat frozen vectors."""
        fit = self.fitting(lambda: self.channel.stop_asked)
        evaluator = fit.begin()
        self._look_for_unknown_text(evaluator.candidate)
        train = evaluator.examples(self.data.splits.train)
        evaluator.examples([*self.data.splits.validation, *self.data.splits.test])  # too long a row is refused now
        dataset = self.offer_dataset()
        self.track()
        digest = self._digest()
        choice = choose_start(fit, train, digest) if is_open else None
        if is_open and choice is None:
            return
        if choice is not None:
            self.remarks.few = "; ".join(filter(None, (choice.sentence, self.remarks.few)))
            self._report(Progress("read", message=choice.sentence))
        if choice is not None and not choice.is_by_pairs:
            run, is_done = fit_on_frozen(fit, evaluator, train, digest), True
        else:
            run, is_done = train_by_pairs(fit, evaluator, train, digest)
        if is_done:
            self.recipe = replace(run.recipe, contrastive=run.position.step > 0)
            self.finish(evaluator, run, dataset)

    def with_recipe(self, recipe: Recipe) -> Training:
        """Another run on the same rows and base."""
        count = len(self.data.splits.train) + len(self.augmented.rows) + len(self.lessons.unlabelled)
        options = {**self.recipe.options, **recipe.options}
        factor = float(self.base.manifest.options.get("rate_factor", 1.0))
        recipe = resolve(replace(recipe, options=options), count, len(self.data.splits.labels), factor)
        recipe = replace(recipe, dtype=self.recipe.dtype)
        parts = recipe, self.data, self.base, self.augmented, self.lessons
        return Training(self.channel, self.assignment, *parts)

    def begin(self, stop_asked: Callable[[], bool]) -> tuple[Evaluator, Trainer]:
        """The evaluator of a fresh candidate, and its trainer, which has read no checkpoint yet.

        Stopped if the process is asked to stop while the base says what it thinks of preferences.
        """
        fit = self.fitting(stop_asked)
        evaluator = fit.begin()
        train, validation = self.examples(evaluator)
        digest = self._digest()
        if objective_in(self.recipe.options):
            place = self.scratch / CHECKPOINTS
            train, validation = with_objective(
                self.channel, self.recipe, evaluator.candidate, train, validation, place, digest
            )
        return evaluator, fit.trainer(evaluator, train, digest, validation=validation)

    def begin_on(
        self, fit: Fitting, candidate: Candidate, train: Examples, validation: Examples
    ) -> tuple[Evaluator, Trainer]:
        """As `begin`, with a candidate that there is, and examples that `examples` gave."""
        evaluator = fit.begin(candidate)
        return evaluator, fit.trainer(evaluator, train, self._digest(), validation=validation)

    def examples(self, evaluator: Evaluator) -> tuple[Examples, Examples]:
        """What is learned and what validates, tokenized; a row that is too long is refused now."""
        splits = self.data.splits
        self._look_for_unknown_text(evaluator.candidate)
        rows, validation = evaluator.examples(splits.train), evaluator.examples(splits.validation)
        taught = self.lessons.examples(evaluator, rows) if self.recipe.teacher else rows
        train = with_soft_labels(self.recipe, self.data, [*taught, *fitting(evaluator, self.augmented.rows)])
        return train, validation

    def fitting(self, stop_asked: Callable[[], bool]) -> Fitting:
        """What the fits of this run have in common."""
        return Fitting(self.assignment, self.recipe, self.data, self.base, self._report, stop_asked)

    def _look_for_unknown_text(self, candidate: Candidate) -> None:
        """Remark and report it if the tokenizer does not know much of a sample of the training texts."""
        rows = self.data.splits.train
        texts = [" ".join(row.texts) for row in rows[:: max(1, len(rows) // SAMPLE_ROWS)]]
        note = unknown_note(candidate.loaded.tokenizer.unknown(texts), self.base.manifest.ref)
        self.remarks.unknown = note
        if note:
            self._report(Progress("read", 1, 1, message=note))

    def _report(self, progress: Progress) -> None:
        if progress.phase == "train":
            figures = {key: value for key, value in progress.figures.items() if key != "eta_s"}
            track_figures(self.tracker, "train", figures, int(progress.done))
        self.channel.report(progress)
        if progress.message:
            print(progress.message, flush=True)

    def _digest(self) -> str:
        """The digest of everything that must be unchanged to continue from a checkpoint."""
        seen = hashlib.sha256(identity_of(self.recipe))
        seen.update(self.data.digest().encode())
        seen.update((self.base.manifest.base_digest or self.base.manifest.ref).encode())
        seen.update(self.augmented.digest.encode())  # nothing where no row was added
        seen.update(self.lessons.digest.encode())
        seen.update(weak_digest(self.recipe, self.data).encode())
        return seen.hexdigest()

    def offer_dataset(self) -> str:
        """Offer the rows as a dataset; returns its ref."""
        written = keep(self.data, self.recipe.task, self.scratch / "dataset", row_options(self.recipe.options))
        return offer_dataset(
            self.channel,
            self.assignment,
            written,
            name=self.recipe.name,
            parents=parents_of(self.data),
            operation={"operation": "train"},
            notes=self.data.notes,
            offer_id=DATASET_OFFER,
            more={
                "labels": list(self.data.splits.labels),
                "provenance": {
                    "sources": self.data.sources,
                    "digest": self.data.digest(),
                    "leaks": [to_plain(leak) for leak in self.data.leaks],
                },
            },
        )

    def finish(self, evaluator: Evaluator, run: Trainer, dataset: str) -> None:
        """Judge the trained candidate, and offer it."""
        parts = self.recipe, self.data, self.base, self.augmented, self.lessons, self.remarks
        with exactly(evaluator.candidate.loaded.backbone):  # as it is served, if it was rounded for training
            last = Finish(self.channel, self.assignment, *parts, self._report).offer(evaluator, run, dataset)
        track_figures(self.tracker, "test", last.figures, run.position.step)
        self._report(last)
