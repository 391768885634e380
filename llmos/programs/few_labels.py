"""A run with few labelled rows: all of them are learned, and texts with few rows a label are learned by pairs first.

Too few rows would be left to validate on: what they say of a model is chance, and each label is worth more where it is
learned. So nothing is chosen or calibrated on them, the last weights are kept, and the test rows alone say how good the
model is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmos.abi.frame import Job
from llmos.abi.method import method_of
from llmos.abi.recipe import SELF_TRAINED, Recipe
from llmos.abi.task import spec_of
from llmos.data.dataset import LoadedData
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.self_training.start import fit_head
from llmos.nn.adapters.head import PooledHead, SequenceHead
from llmos.programs.fitting import CHECKPOINTS, Fitting
from llmos.training.contrastive import PAIRS, STEPS, ContrastiveLoss, contrastive_recipe, draw_pairs, with_vectors
from llmos.training.examples import Example
from llmos.training.trainer import Trainer

LEAST_VALIDATION = 100  # rows; with fewer all are learned
MOST_PER_LABEL = 10  # rows, as a mean: with more, plain fine-tuning is as good as pairs
CONTRASTIVE = "contrastive"


def for_few_rows(recipe: Recipe, job: Job, data: LoadedData) -> tuple[Recipe, LoadedData, str]:
    """The recipe with what it leaves open decided for these rows; the rows, with all of them to learn where they are
    few; and a sentence that says what was decided, if anything was."""
    is_open = recipe.contrastive is None and recipe.data.unlabelled is None  # with other rows, these decide
    by_pairs = _goes_by_pairs(recipe, job, data) if is_open else bool(recipe.contrastive)
    recipe = replace(recipe, contrastive=by_pairs if is_open else recipe.contrastive)
    is_few = _learns_all(recipe, data) if recipe.learn_validation is None else recipe.learn_validation
    recipe = replace(recipe, learn_validation=is_few)
    said = ["texts are learned by pairs, then a head is fitted (contrastive)"] if by_pairs else []
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
    is_other = recipe.teacher or recipe.augment or recipe.class_weights != "none"
    is_text = spec.family in SELF_TRAINED and spec.head == "sequence" and not recipe.options.get("multi_label", False)
    if is_other or not is_text or job.args.get("epochs") is not None or not method_of(recipe.method).trains_layers:
        return False
    return labels > 1 and len(data.splits.train) <= MOST_PER_LABEL * labels


def train_by_pairs(
    fit: Fitting, evaluator: Evaluator, train: Sequence[Example[Any]], digest: str
) -> tuple[Trainer, bool]:
    """Train the base by pairs of texts, and fit the head on all of them; False when it was asked to stop."""
    candidate, head = evaluator.candidate, evaluator.candidate.head
    assert isinstance(head, SequenceHead)
    recipe = contrastive_recipe(fit.recipe)
    pairs = draw_pairs(train, STEPS * PAIRS, recipe.seed)
    reader = with_vectors(candidate, PooledHead(head.pooling))
    trainer, is_done = fit.run(reader, ContrastiveLoss(), pairs, recipe, digest, f"{CHECKPOINTS}-{CONTRASTIVE}")
    if is_done:
        trainer.save()
        fit_head(candidate, train, len(fit.data.splits.labels))
    return trainer, is_done
