"""A run with few labelled rows: all of them are learned, and texts with few rows a label are learned by pairs first.

Too few rows would be left to validate on: what they say of a model is chance, and each label is worth more where it is
learned. So nothing is calibrated on them, the last weights are kept, and the test rows alone say how good the model is.
Pairs are better than the base's own vectors on some rows and worse on others: two halves of the labelled rows, each
judged by a model of the other, decide.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmos.abi.frame import Job
from llmos.abi.method import method_of
from llmos.abi.recipe import Recipe
from llmos.abi.recipe_checks import SELF_TRAINED
from llmos.abi.task import spec_of
from llmos.abi.wire import from_json, to_json
from llmos.data.dataset import LoadedData
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.linear_head import fold_numbers
from llmos.evaluation.predictions import predict
from llmos.evaluation.self_training.start import fit_head
from llmos.nn.adapters.head import PooledHead, SequenceHead
from llmos.programs.fitting import CHECKPOINTS, Fitting, go_on
from llmos.training.contrastive import PAIRS, STEPS, ContrastiveLoss, contrastive_recipe, draw_pairs, with_vectors
from llmos.training.examples import Example
from llmos.training.trainer import Trainer

LEAST_VALIDATION = 100  # rows; with fewer all are learned
MOST_PER_LABEL = 10  # rows, as a mean: with more, plain fine-tuning is as good as pairs
CONTRASTIVE = "contrastive"
HALVES = 2  # of the labelled rows: a model of one is judged on the other
CHOICE = "few-labels.json"


@dataclass(frozen=True, slots=True)
class Choice:
    """Labelled rows, each judged by a model of the half it is not in, and how many each way is right about."""

    rows: int
    pairs_right: int
    frozen_right: int

    @property
    def is_by_pairs(self) -> bool:
        return self.pairs_right > self.frozen_right  # frozen vectors cost nothing: equals are theirs

    @property
    def sentence(self) -> str:
        pairs, frozen = self.pairs_right / self.rows, self.frozen_right / self.rows
        taken = "pairs are taken" if self.is_by_pairs else "the base is left as it is"
        return (
            f"of {self.rows:,} labelled rows, each by a model of the other half, pairs are right about {pairs:.3f} and "
            f"a head on frozen vectors about {frozen:.3f}: {taken}"
        )


def for_few_rows(recipe: Recipe, job: Job, data: LoadedData) -> tuple[Recipe, LoadedData, str]:
    """The recipe with what it leaves open decided for these rows; the rows, with all of them to learn where they are
    few; and a sentence that says what was decided, if anything was."""
    is_open = recipe.contrastive is None and recipe.data.unlabelled is None  # with other rows, these decide
    by_pairs = _goes_by_pairs(recipe, job, data) if is_open else bool(recipe.contrastive)
    recipe = replace(recipe, contrastive=by_pairs if is_open else recipe.contrastive)
    is_few = _learns_all(recipe, data) if recipe.learn_validation is None else recipe.learn_validation
    recipe = replace(recipe, learn_validation=is_few)
    said = ["texts are learned by pairs, then a head is fitted (contrastive)"] if by_pairs and not is_open else []
    if is_few and data.splits.validation:
        recipe, data = replace(recipe, save_best=False, patience=None), learn_all(data)
        said.append(f"all {len(data.splits.train):,} labelled rows are learned, none is kept to validate on")
    return recipe, data, "; ".join(said)


def learn_all(data: LoadedData) -> LoadedData:
    """The same rows, those for validation among those to learn."""
    splits, stored = data.splits, data.stored
    together = replace(splits, train=(*splits.train, *splits.validation), validation=())
    if stored:
        both = (*stored.get("train", ()), *stored.get("validation", ()))
        stored = {**stored, "train": both, "validation": ()}
    return replace(data, splits=together, stored=stored)


def _learns_all(recipe: Recipe, data: LoadedData) -> bool:
    """Whether these rows are few, none was given to validate on, and nothing asks for a promise made on such rows."""
    is_asked = recipe.patience is not None or recipe.options.get("abstain") or recipe.options.get("precision")
    learns_so = recipe.contrastive or (recipe.data.unlabelled is not None and recipe.teacher is None)
    is_given = "validation" in data.sources
    return bool(learns_so) and not is_given and not is_asked and len(data.splits.validation) < LEAST_VALIDATION


def _goes_by_pairs(recipe: Recipe, job: Job, data: LoadedData) -> bool:
    """Whether texts have few rows a label, and the recipe asks for nothing that fine-tuning alone does."""
    spec, labels = spec_of(recipe.task), len(data.splits.labels)
    is_other = recipe.teacher or recipe.augment or recipe.consistency or recipe.class_weights != "none"
    is_text = spec.family in SELF_TRAINED and spec.head == "sequence" and not recipe.options.get("multi_label", False)
    if is_other or not is_text or job.args.get("epochs") is not None or not method_of(recipe.method).trains_layers:
        return False
    return labels > 1 and len(data.splits.train) <= MOST_PER_LABEL * labels


def train_by_pairs(
    fit: Fitting,
    evaluator: Evaluator,
    train: Sequence[Example[Any]],
    digest: str,
    folder: str = f"{CHECKPOINTS}-{CONTRASTIVE}",
) -> tuple[Trainer, bool]:
    """Train the base by pairs of texts, and fit the head on all of them; False when it was asked to stop."""
    trainer = _trainer_by_pairs(fit, evaluator, train, digest, folder)
    is_done = go_on(trainer)[1]
    if is_done:
        trainer.save()
        fit_head(evaluator.candidate, train, len(fit.data.splits.labels))
    return trainer, is_done


def fit_on_frozen(fit: Fitting, evaluator: Evaluator, train: Sequence[Example[Any]], digest: str) -> Trainer:
    """Fit the head alone, on the base's own vectors; the trainer has made no step."""
    fit_head(evaluator.candidate, train, len(fit.data.splits.labels))
    return _trainer_by_pairs(fit, evaluator, train, digest, f"{CHECKPOINTS}-{CONTRASTIVE}")


def _trainer_by_pairs(
    fit: Fitting, evaluator: Evaluator, train: Sequence[Example[Any]], digest: str, folder: str
) -> Trainer:
    candidate, head = evaluator.candidate, evaluator.candidate.head
    assert isinstance(head, SequenceHead)
    recipe = contrastive_recipe(fit.recipe)
    pairs = draw_pairs(train, STEPS * PAIRS, recipe.seed)
    reader = with_vectors(candidate, PooledHead(head.pooling))
    return fit.trainer_by(reader, ContrastiveLoss(), pairs, recipe, digest, folder)


def choose_start(fit: Fitting, train: Sequence[Example[Any]], digest: str) -> Choice | None:
    """Whether pairs or frozen vectors are right about more labelled rows not seen; None when it was asked to stop.

    A choice once made is read again: a run that goes on decides as before.
    """
    path = Path(fit.job.scratch) / CHOICE
    known = from_json(path.read_bytes(), dict[str, Any]) if path.exists() else {}  # Any: as Json
    if known.get("of") == digest:
        return Choice(known["rows"], known["pairs_right"], known["frozen_right"])
    fold_of = fold_numbers(np.array([one.target.labels[0] for one in train]), folds=HALVES, seed=0)
    folders = [f"{CHECKPOINTS}-{CONTRASTIVE}-{half}" for half in range(HALVES)]
    pairs_right = frozen_right = 0
    for half, folder in enumerate(folders):
        evaluator = fit.begin()
        learned = [one for one, fold in zip(train, fold_of, strict=True) if fold != half]
        unseen = [one for one, fold in zip(train, fold_of, strict=True) if fold == half]
        fit_head(evaluator.candidate, learned, len(fit.data.splits.labels))
        frozen_right += _right(evaluator, unseen)
        own = hashlib.sha256(f"{digest} half {half}".encode()).hexdigest()
        if not train_by_pairs(fit, evaluator, learned, own, folder)[1]:
            return None
        pairs_right += _right(evaluator, unseen)
    choice = Choice(len(train), pairs_right, frozen_right)
    draft = path.with_suffix(".draft")
    draft.write_bytes(to_json({"of": digest, **asdict(choice)}))
    os.replace(draft, path)
    for folder in folders:
        shutil.rmtree(Path(fit.job.scratch) / folder, ignore_errors=True)
    return choice


def _right(evaluator: Evaluator, examples: Sequence[Example[Any]]) -> int:
    """How many of these labelled texts the candidate's head is right about."""
    found = predict(evaluator.candidate, evaluator.task, examples, evaluator.settings)
    labels = [one.target.labels[0] for one in examples]
    return sum(int(one.probabilities.argmax()) == label for one, label in zip(found, labels, strict=True))
