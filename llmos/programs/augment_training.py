"""Augmentation of a training run: the added rows, kept in the run's scratch, and what they give by cheap heads.

A run that goes on finds the rows that it began with; they are not made again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmos.abi.augmentation import AUTO, Augmentation, may_change_meaning
from llmos.abi.error import BadRow
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe, augmentation_of
from llmos.abi.task import spec_of
from llmos.abi.wire import from_json, to_json, to_plain
from llmos.data.augmentation.added import AddedRow, AddedRows, Agrees, add_rows
from llmos.data.augmentation.families import FAMILY_DEFAULTS, refuse_unfit
from llmos.data.dataset import LoadedData
from llmos.data.datasets.dataset_reader import open_dataset, row_options
from llmos.data.datasets.dataset_writer import DatasetWriter
from llmos.data.datasets.row_ids import RowIds
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.splits import key_of
from llmos.evaluation.agreement import load_agreement
from llmos.evaluation.augmentation_gain import AugmentationGain, GainMeter, can_measure
from llmos.evaluation.evaluator import Evaluator
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.programs.channel import Channel
from llmos.programs.resident import with_resident
from llmos.tasks import Settings
from llmos.training.examples import Example
from llmos.training.substitutes import find_material

FOLDER, DONE = "augmented", "augmentation.json"


@dataclass(frozen=True, slots=True)
class AugmentedTraining:
    """The rows that a run adds to its training rows, and what evidence says of them."""

    rows: tuple[Any, ...] = ()  # Any: rows of the task's family
    digest: str = ""
    evidence: dict[str, Json] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """For the table of facts; empty where nothing was asked for."""
        return str(self.evidence.get("summary", ""))

    def compared_with(self, promoted: ModelPath | None, recipe: Recipe, data: LoadedData) -> dict[str, Json]:
        """The evidence, and whether the promoted version was trained alike but without added rows: the comparison with
        it is then of what they give to the trained model."""
        if not self.evidence:
            return {}
        return {**self.evidence, "promoted_is_same_without": _is_same_without(promoted, recipe, data)}


OWN = ("augment", "augment_copies", "augment_share", "augment_strength", "balance")
RESOLVED = ("epochs", "name", "checkpoint_every_s", "min_metric", "data")


def _is_same_without(promoted: ModelPath | None, recipe: Recipe, data: LoadedData) -> bool:
    """Whether the promoted version learned from the same rows by this recipe, and from no added ones; its epochs follow
    from the rows."""
    if promoted is None or promoted.manifest.lineage.get("data_digest") != data.digest():
        return False
    theirs = promoted.manifest.lineage.get("recipe")
    if not isinstance(theirs, Mapping) or (promoted.manifest.evidence.get("augmentation") or {}).get("added"):
        return False
    return all(theirs.get(key) == value for key, value in to_plain(recipe).items() if key not in (*OWN, *RESOLVED))


def fitting(evaluator: Evaluator, rows: Sequence[Any]) -> list[Example[Any]]:  # Any: as AugmentedTraining.rows
    """The added rows as tokens, without those that have become longer than the model takes."""
    try:
        return evaluator.examples(rows)
    except BadRow:
        return [example for row in rows for example in _if_it_fits(evaluator, row)]


def _if_it_fits(evaluator: Evaluator, row: Any) -> list[Example[Any]]:  # Any: as above
    try:
        return evaluator.examples([row])
    except BadRow:
        return []


def augment_training(
    channel: Channel, job: Job, recipe: Recipe, data: LoadedData, base: ModelPath
) -> AugmentedTraining:
    """The added rows that this recipe asks for: made now, or those that the run began with."""
    how = augmentation_of(recipe)
    if not how:
        return AugmentedTraining()
    place = _Kept(Path(job.scratch), recipe, bytes.fromhex(job.row_key))
    return place.read() or place.write(_Augmenting(channel, job, recipe, data, base, how).run(), data)


@dataclass(frozen=True, slots=True)
class _Made:
    added: AddedRows
    how: Augmentation
    evidence: dict[str, Json]


@dataclass(frozen=True, slots=True)
class _Augmenting:
    """Makes the rows of one run and measures them."""

    channel: Channel
    job: Job
    recipe: Recipe
    data: LoadedData
    base: ModelPath
    how: Augmentation

    def run(self) -> _Made:
        is_auto = self.how.by == (AUTO,)
        if not is_auto:
            refuse_unfit(self.recipe.task, self.how.by)
            added = self._add(self.how)
            gain, why = self._measure([added])
            return self._describe(added, self.how, gain[0] if gain else None, why)
        names = FAMILY_DEFAULTS.get(spec_of(self.recipe.task).family, ())
        tried = [replace(self.how, by=(name,)) for name in names]
        made = [self._add(one) for one in tried]
        gains, why = self._measure(made)
        return self._choose(tried, made, gains, why)

    def _add(self, how: Augmentation) -> AddedRows:
        self._report(f"augment by {', '.join(how.by) or 'repeat'}")
        splits = self.data.splits
        held_out = frozenset(key_of(row) for row in (*splits.validation, *splits.test))
        material = find_material(self.recipe.task, splits.train, how, self.base, self.job.device, self.job.threads)
        return add_rows(material, how, held_out, self._agreement(how), self._report_rows)

    def _report_rows(self, made: int, wanted: int) -> None:
        self.channel.report(Progress("augment", made, wanted, "rows"))

    def _agreement(self, how: Augmentation) -> dict[str, Agrees]:
        """By augmenter that may change what a text means, whether the promoted version labels a copy as its row."""
        names = [name for name in how.by if may_change_meaning(name)]
        promoted = self._labelling_model()
        if not names or promoted is None:
            return {}
        self._report(f"copies by {', '.join(names)} are kept if {promoted.manifest.ref} labels them as their row")
        if promoted.base is not None:
            promoted = with_resident(self.channel, self.job, promoted)
        asked = load_agreement(promoted, self.recipe.task, self.recipe.dtype or "float32", self.job.device)
        return dict.fromkeys(names, asked)

    def _judges(self, how: Augmentation) -> dict[str, Json]:
        """By augmenter, the version that its copies were kept by."""
        promoted = self._labelling_model()
        return {name: promoted.manifest.ref for name in how.by if promoted is not None and may_change_meaning(name)}

    def _labelling_model(self) -> ModelPath | None:
        """The promoted version of the name, if it does the same task by labels and knows all of them."""
        promoted = self.job.models.get("promoted")
        if promoted is None or promoted.manifest.task != self.recipe.task or not spec_of(self.recipe.task).has_labels:
            return None
        many = [bool(options.get("multi_label")) for options in (promoted.manifest.options, self.recipe.options)]
        knows_all = set(promoted.manifest.labels) >= set(self.data.splits.labels)
        return promoted if knows_all and many[0] == many[1] else None

    def _measure(self, made: Sequence[AddedRows]) -> tuple[list[AugmentationGain | None], str]:
        """The gain of each by cheap heads, or none and why not."""
        task, splits = self.recipe.task, self.data.splits
        if not can_measure(task):
            return [], f"heads on frozen vectors do not do {task}"
        self._report("measure what the added rows give, by heads on frozen vectors")
        encoder = FrozenEncoder(self.base, device=self.job.device, threads=self.job.threads)
        meter = GainMeter(task, splits, encoder, Settings(splits.labels, self.recipe.options, encoder.max_tokens))
        return [meter.gain(one.rows) for one in made], ""

    def _choose(
        self,
        tried: Sequence[Augmentation],
        made: Sequence[AddedRows],
        gains: Sequence[AugmentationGain | None],
        why: str,
    ) -> _Made:
        """The one that helps most on the validation rows; none where none helps."""
        helping = [i for i, gain in enumerate(gains) if gain is not None and gain.helps]
        candidates = {
            one.by[0]: None if gain is None else gain.plain() for one, gain in zip(tried, gains, strict=False)
        }
        if not helping:
            said = why or "none of those tried is better by heads on frozen vectors, on the validation rows"
            evidence = {"by": [], "candidates": candidates, "summary": f"auto chose none: {said}"}
            self._report(str(evidence["summary"]))
            return _Made(AddedRows(()), replace(self.how, by=()), evidence)
        best = max(helping, key=lambda i: _difference(gains[i]))
        found = self._describe(made[best], tried[best], gains[best], "")
        return replace(found, evidence={**found.evidence, "candidates": candidates, "chosen": "auto"})

    def _describe(self, added: AddedRows, how: Augmentation, gain: AugmentationGain | None, why: str) -> _Made:
        counts = ", ".join(f"{count:,} by {name}" for name, count in added.counts.items()) or "none could be made"
        measured = str(gain) if gain is not None else f"not measured: {why or 'too few rows'}"
        summary = f"{len(added.rows):,} rows added ({counts}); {measured}"
        self._report(summary)
        evidence = {
            **to_plain(how),
            "added": len(added.rows),
            "counts": added.counts,
            "missing": added.missing,
            "kept_by": self._judges(how),
            "digest": added.digest(),
            "gain": None if gain is None else gain.plain(),
            "summary": summary,
        }
        return _Made(added, how, evidence)

    def _report(self, message: str) -> None:
        print(message, flush=True)
        self.channel.report(Progress("augment", message=message))


def _difference(gain: AugmentationGain | None) -> float:
    return 0.0 if gain is None else gain.comparison.difference


@dataclass(frozen=True, slots=True)
class _Kept:
    """The added rows in the run's scratch, with their provenance."""

    scratch: Path
    recipe: Recipe
    key: bytes

    def read(self) -> AugmentedTraining | None:
        """What an earlier start of this run made; None if it came to none."""
        said = self.scratch / DONE
        if not said.exists():
            return None
        evidence: dict[str, Json] = from_json(said.read_bytes(), dict[str, Any])  # Any: as Json
        if not evidence.get("added"):
            return AugmentedTraining(evidence=evidence)
        reader = open_dataset(self.scratch / FOLDER, self.recipe.task, self.recipe.options, key=self.key)
        rows = tuple(stored.row for stored in reader.rows("train"))
        return AugmentedTraining(rows, str(evidence["digest"]), evidence)

    def write(self, made: _Made, data: LoadedData) -> AugmentedTraining:
        """Keep the rows, then what is said of them: only the second file says that the first is whole."""
        added = made.added.rows
        if added:
            parents = data.stored["train"]
            ids = RowIds(self.key).of([one.row for one in added])
            with DatasetWriter(
                self.scratch / FOLDER, self.recipe.task, options=row_options(self.recipe.options)
            ) as writer:
                for id, one in zip(ids, added, strict=True):
                    writer.add("train", _stored_row(one, id, parents[one.parent], made.how.seed))
                writer.finish()
        draft = self.scratch / f"{DONE}.draft"
        draft.write_bytes(to_json(made.evidence))
        os.replace(draft, self.scratch / DONE)
        digest = str(made.evidence["digest"]) if added else ""
        return AugmentedTraining(tuple(one.row for one in added), digest, made.evidence)


def _stored_row(one: AddedRow, id: str, parent: StoredRow[Any], seed: int) -> StoredRow[Any]:  # Any: as above
    return StoredRow(id, one.row, parent.extra, one.origin([parent.id], seed))
