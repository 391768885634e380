"""The promoted version of a model's name, which a candidate is compared with on the same test rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.method import is_on_base
from llmos.abi.model import content_digest
from llmos.abi.objective import primary_metric_of
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe
from llmos.data.dataset import LoadedData, training_keys
from llmos.data.splits import key_of
from llmos.evaluation.conditions.condition import Incumbent
from llmos.evaluation.evaluator import Evaluator, load_evaluator
from llmos.evaluation.generation_eval import places_answered
from llmos.evaluation.statistics.comparison import compare
from llmos.programs.channel import Channel
from llmos.programs.resident import with_resident


@dataclass(frozen=True, slots=True)
class PromotedVersion:
    """What a run needs to compare its candidate with the version that its name serves now."""

    channel: Channel
    job: Job
    recipe: Recipe
    data: LoadedData
    base: ModelPath

    def compare_with(self, evaluator: Evaluator, predicted: Sequence[Any]) -> Incumbent | None:
        """The promoted version, compared with this candidate on the test rows that it has not learned from."""
        promoted = self.job.models.get("promoted")
        if promoted is None:
            return None
        manifest = promoted.manifest
        if note := self._why_not_comparable(promoted):
            return Incumbent(manifest.ref, manifest.task, note=note)
        if manifest.task != self.recipe.task:
            return Incumbent(manifest.ref, manifest.task)
        known = known_keys(self.job, promoted, self.channel.report)
        fair = [i for i, row in enumerate(self.data.splits.test) if key_of(row) not in known]
        if not fair:
            return Incumbent(manifest.ref, manifest.task, note="it has learned from every test row. Give a test file")
        rows, mine = [self.data.splits.test[i] for i in fair], [predicted[i] for i in fair]
        dtype = self.recipe.dtype or "float32"
        if is_on_base(manifest.method):
            promoted = with_resident(self.channel, self.job, promoted)
        theirs = load_evaluator(promoted, manifest.task, dtype, self.job.device)
        read = theirs.predict_raw(
            rows,
            lambda done: self.channel.report(Progress("compare", done, len(rows), "rows")),
            answered=places_answered(mine),
        )
        its = theirs.apply_calibration(read)
        name = primary_metric_of(manifest.task, self.recipe.options)
        comparison = compare(evaluator.sample(rows, mine), theirs.sample(rows, its), name)
        if comparison is None:
            return Incumbent(manifest.ref, manifest.task, note=f"{name} cannot be computed of both on these rows")
        lacking = sorted(set(self.data.splits.labels) - set(manifest.labels))
        notes = [f"rows of {len(lacking)} labels that it does not have count as its mistakes"] if lacking else []
        left_out = len(predicted) - len(fair)
        if left_out:
            notes.append(f"{left_out:,} of the {len(predicted):,} test rows are left out: it has learned from them")
        ours = comparison.ours if left_out else None
        return Incumbent(manifest.ref, manifest.task, comparison, "; ".join(notes), ours, tuple(lacking))

    def _why_not_comparable(self, promoted: ModelPath) -> str:
        """Why a model of the same task cannot be compared with; empty where it can, or does another task."""
        manifest = promoted.manifest
        if manifest.task != self.recipe.task:
            return ""
        many, is_many = (bool(one.get("multi_label", False)) for one in (manifest.options, self.recipe.options))
        if many != is_many:
            return "one gives one label to a text, the other many"
        if primary_metric_of(manifest.task, self.recipe.options) == "likelihood" and not self._reads_alike(promoted):
            return f"it stands on {manifest.base}, whose tokens are others, and each model's likelihood is of its own"
        return ""

    def _reads_alike(self, other: ModelPath) -> bool:
        """Whether the other model's base has the same files: equal weights may still have another tokenizer."""
        theirs = other.base.manifest if other.base is not None else None
        return theirs is not None and content_digest(theirs.files) == content_digest(self.base.manifest.files)


def known_keys(job: Job, model: ModelPath, report: Callable[[Progress], None]) -> frozenset[str]:
    """The keys of the rows that a version was trained on, if the store still has its dataset."""
    ref = str(model.manifest.lineage.get("dataset", ""))
    if ref not in job.datasets:
        report(Progress("compare", message=f"The rows that {model.manifest.ref} has learned from are not known"))
        return frozenset()
    return training_keys(job.datasets[ref], model.manifest.task, model.manifest.options)


def comparison_json(incumbent: Incumbent, metric: str) -> dict[str, Json]:
    """For the evidence; `ours` is null where all test rows were compared."""
    found = incumbent.comparison
    said = {"ref": incumbent.ref, metric: found and found.theirs, "ours": incumbent.ours, "note": incumbent.note}
    return {**found.plain(), **said, "our_metric": found.ours} if found is not None else said
