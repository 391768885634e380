"""Self-training of a run: unlabelled rows get labels that a model is sure of, and the next model learns from them too.

The first labels come from label propagation, from a head after contrastive training, or from a model of the labelled
rows. Models that give labels are trained by all weights whatever the run's method is, unless the base is large: they
are dropped. Each round takes more rows than the one before. What a round chose is kept in the run's scratch, so a run
that goes on repeats no round. Validation and test rows never get such a label.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmos.abi.auto_method import labelling_method
from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Part
from llmos.abi.process import Progress
from llmos.abi.recipe import UNLABELLED, Recipe, needs_frozen_base
from llmos.abi.task import Family, spec_of
from llmos.abi.wire import from_json, to_json
from llmos.data.dataset import LoadedData
from llmos.data.splits import key_of
from llmos.data.unlabelled import unlabelled_rows
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.self_training import believing
from llmos.evaluation.self_training.selection import Belief, choose, estimated_precision
from llmos.evaluation.self_training.start import spread_labels, vectors_of
from llmos.nn.adapters.head import SequenceHead
from llmos.programs.few_labels import CONTRASTIVE, train_by_pairs
from llmos.programs.fitting import CHECKPOINTS, Fitting
from llmos.training.examples import Example
from llmos.training.recipe import resolve
from llmos.training.trainer import Trainer

MOST_ROWS = 20_000  # that a run learns from: all are compared with each other
FOLDER = "self-training"
TEACHERS = 3  # models by pairs whose mean gives the first labels
LEAST_STEPS = 400  # of a round, where the recipe leaves the epochs open
PROPAGATION, LABELLED = "propagation", "labelled"
# of each label's rows, the surest that are learned in the first round, by its start, and at least in the last
FIRST_SHARES, LAST_SHARE = {PROPAGATION: 0.9, CONTRASTIVE: 0.5, LABELLED: 0.5}, 0.8


@dataclass(frozen=True, slots=True)
class Round:
    """What one round learned: the places of unlabelled rows, and the rows with their labels."""

    by: str
    start: str
    places: tuple[int, ...]
    rows: tuple[Any, ...]  # Any: of the task's family
    precision: dict[str, Json]
    digest: str
    start_accuracy: dict[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Json]:
        return {"by": self.by, "rows": len(self.rows), "estimated": self.precision}

    @property
    def sentence(self) -> str:
        held = self.precision
        if held["precision"] is None:
            return f"{len(self.rows):,} rows by {self.by}; no labelled row is left to tell how many labels are right"
        right = f"{held['precision']:.3f} ({held['low']:.3f} to {held['high']:.3f})"
        return f"{len(self.rows):,} rows by {self.by}; of {held['rows']:,} labelled rows as sure, right {right}"


@dataclass(slots=True)
class SelfTraining:
    """The unlabelled rows of a run, and its rounds."""

    fitting: Fitting
    unlabelled: Sequence[Any]  # Any: rows of the task's family
    digest: str  # of recipe, data and base
    labelling: Fitting  # of the models that give labels, and are dropped
    rounds: list[Round] = field(default_factory=list)
    views: dict[str, Json] = field(default_factory=dict)  # what the evidence says of them

    def run(self) -> bool:
        """Choose the rows of every round, training a model between two; False when it was asked to stop."""
        wanted = self.fitting.recipe.self_training_rounds
        while len(self.rounds) < wanted:
            number = len(self.rounds)
            made = self._read(number) or (self._begin() if number == 0 else self._next(number))
            if made is None:
                return False
            self._write(number, made)
            self.rounds.append(made)
            self._report(f"self-training, round {number + 1} of {wanted}: {made.sentence}")
        return True

    def evidence(self) -> dict[str, Json]:
        """What the evidence says of the rounds."""
        if not self.rounds:
            return {}
        return {
            "unlabelled": len(self.unlabelled),
            "digest": _digest_of_rows(self.unlabelled),
            "start": self.rounds[0].start,
            "start_accuracy": self.rounds[0].start_accuracy,
            "rounds": [one.plain() for one in self.rounds],
            **({"views": self.views} if self.views else {}),
            "summary": f"{len(self.unlabelled):,} unlabelled rows; learned were {self.rounds[-1].sentence}",
        }

    def fit_last(self, evaluator: Evaluator, train: Sequence[Example[Any]]) -> tuple[Fitting, Trainer, bool]:
        """Fit the final model: the settings it was fitted by, its trainer, and whether it came to its end."""
        return self._fit(self.fitting, evaluator, train, self.rounds[-1], CHECKPOINTS)

    def prepare(self, evaluator: Evaluator) -> bool:
        """Bring the last model, by the method of those that gave labels, to where they began; False when stopped."""
        return self.fitting.recipe.method != self.labelling.recipe.method or self._begin_as_before(evaluator)

    def _begin(self) -> Round | None:
        """The first round: by the start that suits these rows."""
        evaluator = self.labelling.begin()
        if self.fitting.recipe.contrastive:
            return self._begin_by_pairs(evaluator)
        if isinstance(evaluator.candidate.head, SequenceHead) and spec_of(evaluator.task).family is Family.LABELS:
            return self._begin_with_texts(evaluator)
        train = evaluator.examples(self.fitting.data.splits.train)
        _, is_done = self.labelling.fit(evaluator, train, self._digest_with(LABELLED), self._labelling_folder(0))
        return self._choose(evaluator, LABELLED, LABELLED, 0) if is_done else None

    def _begin_with_texts(self, evaluator: Evaluator) -> Round | None:
        splits, task = self.fitting.data.splits, believing(evaluator.task)
        self._report("self-training: vectors of all rows")
        train = evaluator.examples(splits.train)
        others = [*splits.validation, *self._blank()]
        head = evaluator.candidate.head
        assert isinstance(head, SequenceHead)
        examples = [*train, *self._examples(evaluator, others)]
        vectors, _ = vectors_of(evaluator.candidate, head.pooling, examples)
        labels = np.array([one.target.labels[0] for one in train])
        spread = spread_labels(vectors, labels, len(splits.labels))
        accuracy = {PROPAGATION: spread.accuracy, "head": spread.head_accuracy}
        said = ", ".join(f"{name} {value:.3f}" for name, value in accuracy.items())
        self._report(f"self-training: of labelled rows not seen, right {said}")
        if not spread.is_better and self.fitting.recipe.contrastive is None:
            made = self._begin_by_pairs(evaluator)
            return None if made is None else replace(made, start_accuracy=accuracy)
        held_rows = [*splits.train, *splits.validation]
        shares = np.concatenate([spread.labelled, spread.others])
        beliefs = task.beliefs_of(
            [*held_rows, *self.unlabelled], [LabelPrediction(one) for one in shares], evaluator.settings
        )
        held, own = beliefs[: len(held_rows)], beliefs[len(held_rows) :]
        return replace(self._round(held, held_rows, own, PROPAGATION, PROPAGATION, 0), start_accuracy=accuracy)

    def _begin_by_pairs(self, evaluator: Evaluator) -> Round | None:
        """By several models that were trained by other pairs: the mean of what they say is right more often than one.

        The first is trained by the run's own seed, and what follows goes on from it.
        """
        told: list[list[LabelPrediction]] = []
        for number in range(TEACHERS):
            evaluator = evaluator if number == 0 else self.labelling.begin()
            if not self._contrast(evaluator, number):
                return None
            told.append(self._predict(evaluator))
        mean = [LabelPrediction(np.mean([one.probabilities for one in row], axis=0)) for row in zip(*told, strict=True)]
        return self._choose_by(evaluator, mean, CONTRASTIVE, CONTRASTIVE, 0)

    def _next(self, number: int) -> Round | None:
        """A further round: a model learns from the rows of the one before, and says what it believes."""
        before = self.rounds[-1]
        evaluator = self.labelling.begin()
        if not self._begin_as_before(evaluator):
            return None
        train = evaluator.examples(self.fitting.data.splits.train)
        _, _, is_done = self._fit(self.labelling, evaluator, train, before, self._labelling_folder(number))
        return self._choose(evaluator, f"model {number}", before.start, number) if is_done else None

    def _fit(
        self, by: Fitting, evaluator: Evaluator, train: Sequence[Example[Any]], made: Round, folder: str
    ) -> tuple[Fitting, Trainer, bool]:
        """Fit a model on labelled examples and what a round chose; as `fit_last` answers."""
        examples = [*train, *self._examples(evaluator, made.rows)]
        fitting = _in_few_epochs(by, len(examples))
        views = self._views(evaluator) if fitting.recipe.views else ()
        return fitting, *fitting.fit(evaluator, examples, self._digest_of(made), folder, views)

    def _views(self, evaluator: Evaluator) -> Sequence[Example[Any]]:
        from llmos.programs.view_rows import make_views  # what other runs do not need

        splits = self.fitting.data.splits
        held_out = frozenset(key_of(row) for row in (*splits.validation, *splits.test))
        views = make_views(self._cutting(evaluator), self._blank(), self.fitting.recipe, held_out)
        changed = sum(one.sequences[0] != one.sequences[1] for one in views)
        self.views = {"rows": len(views), "changed": changed, "a_learned_row": self.fitting.recipe.views}
        return views

    def _begin_as_before(self, evaluator: Evaluator) -> bool:
        """Bring a fresh candidate to where the start left off: contrastive weights and head; False when stopped."""
        return self.rounds[0].start != CONTRASTIVE or self._contrast(evaluator)

    def _contrast(self, evaluator: Evaluator, number: int = 0) -> bool:
        """Train the base by pairs of the draw of this number, and fit the head; False when it was asked to stop."""
        train, recipe = evaluator.examples(self.fitting.data.splits.train), self.labelling.recipe
        fit = replace(self.labelling, recipe=replace(recipe, seed=recipe.seed + number))
        return train_by_pairs(fit, evaluator, train, self._digest_with(CONTRASTIVE), self._pairs_folder(number))[1]

    def _choose(self, evaluator: Evaluator, by: str, start: str, number: int) -> Round:
        """The rows of the round that this model is surest of."""
        return self._choose_by(evaluator, self._predict(evaluator), by, start, number)

    def _predict(self, evaluator: Evaluator) -> list[Any]:  # Any: predictions of the task's family
        """What a model says of the rows to validate on, and then of those without labels."""
        rows = [*self.fitting.data.splits.validation, *self._blank()]
        return self._cutting(evaluator).predict_raw(rows, self._on_row)

    def _choose_by(self, evaluator: Evaluator, predicted: Sequence[Any], by: str, start: str, number: int) -> Round:
        held_rows, task = self.fitting.data.splits.validation, believing(evaluator.task)
        beliefs = task.beliefs_of([*held_rows, *self.unlabelled], predicted, evaluator.settings)
        return self._round(beliefs[: len(held_rows)], held_rows, beliefs[len(held_rows) :], by, start, number)

    def _round(
        self, held: Sequence[Belief], rows: Sequence[Any], own: Sequence[Belief], by: str, start: str, number: int
    ) -> Round:
        last = self.fitting.recipe.self_training_rounds - 1
        first = FIRST_SHARES[start]
        share = first + max(0.0, LAST_SHARE - first) * (number / last if last else 0)
        places, least = choose(own, share)
        task = believing(self.fitting.recipe.task)
        right = [task.is_right(row, one) for row, one in zip(rows, held, strict=True)]
        chosen = tuple(own[i].row for i in places)
        return Round(by, start, tuple(places), chosen, estimated_precision(held, right, least), _digest(places, chosen))

    def _blank(self) -> list[Any]:
        blank = believing(self.fitting.recipe.task).blank
        return [blank(row) for row in self.unlabelled]

    def _cutting(self, evaluator: Evaluator) -> Evaluator:
        """The evaluator for rows that nobody has looked at: one that is too long is cut."""
        settings = replace(evaluator.settings, options={**evaluator.settings.options, "truncate": True})
        return replace(evaluator, settings=settings)

    def _examples(self, evaluator: Evaluator, rows: Sequence[Any]) -> list[Example[Any]]:
        return self._cutting(evaluator).examples(rows)

    def _digest_of(self, made: Round) -> str:
        return self._digest_with(made.digest)

    def _digest_with(self, what: str) -> str:
        told = f"{self.digest} {_digest_of_rows(self.unlabelled)} {self._other_method}{what}"
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def _other_method(self) -> str:
        """The method of the models that give labels, where it is not the run's own. With it in their names, a run
        that was begun before there was such a method begins them anew."""
        method = self.labelling.recipe.method
        return "" if method == self.fitting.recipe.method else f"{method} "

    def _read(self, number: int) -> Round | None:
        """What an earlier start of this run chose for the round; None if it did not come so far."""
        path = self._path(number)
        if not path.exists():
            return None
        said: dict[str, Any] = from_json(path.read_bytes(), dict[str, Any])  # Any: as Json
        if said["of"] != self._digest_with(""):
            return None
        row, labels = believing(self.fitting.recipe.task).with_target, said["labels"]
        rows = tuple(row(self.unlabelled[i], one) for i, one in zip(said["places"], labels, strict=True))
        return Round(
            said["by"],
            said["start"],
            tuple(said["places"]),
            rows,
            said["precision"],
            _digest(said["places"], rows),
            said["accuracy"],
        )

    def _write(self, number: int, made: Round) -> None:
        """Keep what the round chose, then drop the checkpoints of the models that chose it, and those of a last model
        that learned what an earlier release chose."""
        path = self._path(number)
        path.parent.mkdir(exist_ok=True)
        targets = believing(self.fitting.recipe.task).target
        said = {
            "of": self._digest_with(""),
            "by": made.by,
            "start": made.start,
            "places": list(made.places),
            "labels": [targets(row) for row in made.rows],
            "precision": made.precision,
            "accuracy": made.start_accuracy,
        }
        draft = path.with_suffix(".draft")
        draft.write_bytes(to_json(said))
        os.replace(draft, path)
        others = [self._pairs_folder(teacher) for teacher in range(1, TEACHERS)] if number == 0 else []
        for folder in (self._labelling_folder(number), *others, CHECKPOINTS):
            shutil.rmtree(Path(self.fitting.job.scratch) / folder, ignore_errors=True)

    def _pairs_folder(self, number: int) -> str:
        return self._labelling_folder(CONTRASTIVE if number == 0 else f"{CONTRASTIVE}-{number}")

    def _labelling_folder(self, name: str | int) -> str:
        return f"{CHECKPOINTS}-{self._other_method.replace(' ', '-')}{name}"

    def _path(self, number: int) -> Path:
        return Path(self.fitting.job.scratch) / FOLDER / f"round-{number}.json"

    def _on_row(self, done: int) -> None:
        self.fitting.report(Progress(UNLABELLED, done, len(self.unlabelled), "rows"))

    def _report(self, message: str) -> None:
        self.fitting.report(Progress(UNLABELLED, message=message))


def labelling_fit(fit: Fitting) -> Fitting:
    """The same fit for models that give labels and are dropped: by all weights, at their own rate."""
    recipe, base, splits = fit.recipe, fit.base.manifest, fit.data.splits
    weights = sum(file.size_bytes for file in base.files if file.part is Part.WEIGHTS)
    method = labelling_method(recipe.method, weights, needs_frozen_base=needs_frozen_base(recipe))
    if method == recipe.method:
        return fit
    epochs = None if fit.job.args.get("epochs") is None else recipe.epochs
    own = replace(recipe, method=method, method_settings={}, learning_rate=None, head_rate_ratio=None, epochs=epochs)
    factor = float(base.options.get("rate_factor", 1.0))
    return replace(fit, recipe=resolve(own, len(splits.train), len(splits.labels), factor))


def _in_few_epochs(fit: Fitting, rows: int) -> Fitting:
    """The fit with as many epochs as the least steps need, if the recipe leaves them open."""
    recipe = fit.recipe
    assert recipe.epochs is not None
    assert recipe.batch_size is not None
    if fit.job.args.get("epochs") is not None:
        return fit
    return fit.in_epochs(min(recipe.epochs, max(1.0, LEAST_STEPS * recipe.batch_size / rows)))


def rows_to_learn(recipe: Recipe, job: Job, data: LoadedData) -> list[Any]:  # Any: rows of the task's family
    """The recipe's rows without labels, not more than MOST_ROWS; BadInput where none is new."""
    rows = unlabelled_rows(recipe.data, recipe.task, recipe.options, job.datasets, data.splits)
    if not rows:
        raise BadInput(
            f"{recipe.data.unlabelled} has no row without a label that is not in train, validation or test already. "
            "Name other rows, or leave unlabelled out",
            key="data.unlabelled",
            value=recipe.data.unlabelled,
        )
    return sorted(rows, key=_in_no_order)[:MOST_ROWS] if len(rows) > MOST_ROWS else rows


def _in_no_order(row: Any) -> str:  # Any: as above
    """Of a file that has grown, mostly the same rows are taken."""
    return hashlib.sha256(key_of(row).encode()).hexdigest()


def _digest_of_rows(rows: Sequence[Any]) -> str:  # Any: as above
    return hashlib.sha256("\n".join(map(key_of, rows)).encode()).hexdigest()


def _digest(places: Sequence[int], rows: Sequence[Any]) -> str:
    seen = hashlib.sha256()
    for place, row in zip(places, rows, strict=True):
        seen.update(f"{place} {row.target}\n".encode())
    return seen.hexdigest()
