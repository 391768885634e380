"""A teacher in a training run: its answers to the rows, computed once and kept in the scratch.

A run that goes on reads the answers that it began with: the teacher is not asked again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmos.abi.endpoint import is_address
from llmos.abi.error import BadInput
from llmos.abi.frame import Job, ModelPath
from llmos.abi.method import is_on_base
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe
from llmos.abi.task import is_generative
from llmos.data.dataset import LoadedData
from llmos.data.unlabelled import unlabelled_rows
from llmos.evaluation.evaluator import Evaluator, load_evaluator
from llmos.programs.channel import Channel, Stopped
from llmos.programs.resident import with_resident
from llmos.training.distillation import bare_examples, render_bare, soft_examples
from llmos.training.examples import Example, passes
from llmos.training.objectives import taught_family

FILE = "teacher.safetensors"
TOKENS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class SpokenLessons:
    """What a teacher that answers in words has said: of how many rows it was asked, how many answers are none that can
    be learned, how many labelled rows stand beside, and the middle of the seconds that an answer took.

    `tested` has its answers to test rows, by their places: as predictions of the task's family.
    """

    teacher: str
    asked: int
    refused: int
    labelled: int
    seconds: float
    tested: Mapping[int, Any]
    most_tokens: int = 0  # of an answer, where it is a text


@dataclass(frozen=True, slots=True)
class Lessons:
    """The teacher's logits of every unit of each row, [units, labels] a row: of the training rows, then of those
    without labels."""

    unlabelled: tuple[Any, ...] = ()  # Any: rows of the task's family
    train: tuple[Tensor, ...] = ()
    bare: tuple[Tensor, ...] = ()
    digest: str = ""
    told: SpokenLessons | None = None  # of a teacher that answers in words

    def examples(self, evaluator: Evaluator, examples: list[Example[Any]]) -> list[Example[Any]]:  # Any: targets
        """The training examples with what the teacher says of them, and those of the rows without labels."""
        if not self.train:  # what the teacher has written are targets as others are
            return examples
        task, tokenizer = evaluator.task, evaluator.candidate.loaded.tokenizer
        bare = bare_examples(task, self.unlabelled, self.bare, tokenizer, evaluator.settings)
        return [*soft_examples(task, examples, self.train), *bare]


def lessons_of(channel: Channel, job: Job, recipe: Recipe, data: LoadedData) -> tuple[LoadedData, Lessons]:
    """The data as the teacher changes it, and what the teacher says of the rows; Stopped before all is said."""
    assert recipe.teacher is not None
    if is_generative(recipe.task):
        from llmos.programs.written_lessons import ask_for_texts  # only where a teacher writes

        return ask_for_texts(channel, job, recipe, data)
    if is_address(recipe.teacher):
        from llmos.programs.endpoint_teacher import ask_for_labels  # imports httpx, only for an address

        return data, ask_for_labels(channel, job, recipe, data)
    data = taught_data(data, job.models["teacher"])
    return data, ask_teacher(channel, job, recipe, data)


def taught_data(data: LoadedData, teacher: ModelPath) -> LoadedData:
    """The data with the teacher's labels, in its order; BadInput if it lacks one that the rows have."""
    known, needed = teacher.manifest.labels, data.splits.labels
    if lacking := [label for label in needed if label not in known]:
        shown = ", ".join(map(repr, lacking[:5]))
        raise BadInput(
            f"{teacher.manifest.ref} cannot teach {len(lacking):,} of the labels that the rows have ({shown}). Take a "
            "teacher that was trained on all of them",
            key="teacher",
            labels=lacking[:20],
        )
    return replace(data, splits=replace(data.splits, labels=known))


def ask_teacher(channel: Channel, job: Job, recipe: Recipe, data: LoadedData) -> Lessons:
    """What the recipe's teacher answers to the training rows and to those without labels."""
    teacher = job.models["teacher"]
    bare = unlabelled_rows(recipe.data, recipe.task, recipe.options, job.datasets, data.splits)
    rows = [*data.splits.train, *bare]
    digest = _digest(teacher, rows)
    kept = Path(job.scratch) / FILE
    logits = _read(kept, digest)
    if logits is None:
        logits = _Asking(channel, job, recipe, teacher, rows).run()
        _write(kept, digest, logits)
    count = len(data.splits.train)
    return Lessons(tuple(bare), tuple(logits[:count]), tuple(logits[count:]), digest)


def _digest(teacher: ModelPath, rows: Iterable[Any]) -> str:  # Any: as Lessons has them
    """Of the teacher's files and the rows: what the answers follow from."""
    manifest = teacher.manifest
    seen = hashlib.sha256(f"{manifest.ref} {manifest.base_digest}".encode())
    for file in manifest.files:
        seen.update(file.digest.encode())
    for row in rows:
        seen.update(row.identity.encode())
    return seen.hexdigest()


@dataclass(frozen=True, slots=True)
class _Asking:
    """One pass of the teacher over all rows."""

    channel: Channel
    job: Job
    recipe: Recipe
    teacher: ModelPath
    rows: Sequence[Any]

    def run(self) -> list[Tensor]:
        evaluator = load_teacher(self.channel, self.job, self.recipe, self.teacher)
        candidate, task = evaluator.candidate, self.recipe.task
        rendered = render_bare(task, self.rows, candidate.loaded.tokenizer, evaluator.settings)
        units_of = taught_family(task).units_of
        found: list[Tensor] = [torch.empty(0)] * len(rendered)
        candidate.train(False)
        done = 0
        with torch.inference_mode():
            for part in passes(range(len(rendered)), [one.size for one in rendered], TOKENS_AT_ONCE):
                self._check_stop()
                logits = candidate.logits([ids for i in part for ids in rendered[i].sequences]).float().cpu()
                units = [units_of(rendered[i]) for i in part]
                each = torch.split(logits, [one.outputs for one in units])
                for i, one, mine in zip(part, units, each, strict=True):
                    found[i] = _of_units(one.places, mine)
                done += len(part)
                self.channel.report(Progress("teach", done, len(rendered), "rows"))
        return [one.clone() for one in found]

    def _check_stop(self) -> None:
        if self.channel.stop_asked:
            raise Stopped


def _of_units(places: Sequence[int | None], logits: Tensor) -> Tensor:
    """The logits at these places, [units, labels]; not a number for a unit that the teacher did not see."""
    made = torch.full((len(places), logits.shape[-1]), float("nan"))
    seen = [i for i, place in enumerate(places) if place is not None]
    made[seen] = logits[[place for place in places if place is not None]]
    return made


def load_teacher(channel: Channel, job: Job, recipe: Recipe, teacher: ModelPath) -> Evaluator:
    """The teacher with its base, in the dtype of the run."""
    if is_on_base(teacher.manifest.method):
        teacher = with_resident(channel, job, teacher)
    return load_evaluator(teacher, recipe.task, recipe.dtype or job.dtype, job.device)


def _read(path: Path, digest: str) -> list[Tensor] | None:
    """What an earlier start of this run was told; None if nothing, or about other rows."""
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("digest") != digest:
            return None
        counts: list[int] = file.get_tensor("counts").tolist()
        return list(torch.split(file.get_tensor("logits"), counts))


def _write(path: Path, digest: str, logits: Sequence[Tensor]) -> None:
    """One file, whole or absent."""
    draft = path.with_suffix(".draft")
    held = {"logits": torch.cat(list(logits)), "counts": torch.tensor([len(one) for one in logits])}
    save_file(held, draft, {"digest": digest})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)
