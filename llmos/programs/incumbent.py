"""The promoted version of a model's name, which a candidate is compared with on the test rows of both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.method import is_on_base
from llmos.abi.model import content_digest
from llmos.abi.objective import primary_metric_of
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe
from llmos.data.dataset import LoadedData, stored_test_rows, training_keys
from llmos.data.families import rows_of
from llmos.data.row import LabelRow, Row
from llmos.data.splits import key_of
from llmos.evaluation.conditions.condition import Incumbent
from llmos.evaluation.evaluator import Evaluator, load_evaluator
from llmos.evaluation.generation_eval import places_answered
from llmos.evaluation.statistics.comparison import Comparison, compare
from llmos.evaluation.statistics.intervals import wilson
from llmos.programs.channel import Channel
from llmos.programs.resident import with_resident

MOST_EARLIER = 2_000  # rows that the promoted version was tested on, at equal distances
LEAST_SHARED = 10  # earlier test rows that a run has too, from which on their other labels may be a contradiction
SAME = "this run has all others too"
NOT_TOLD = f"{SAME}, and only of labels it is told whether they are others now"
MOST_CORRECTED = 0.1  # of the earlier test rows that a run has too: more other labels than this are no corrections


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
        comparison = self._compare(evaluator, theirs, rows, mine)
        if comparison is None:
            name = primary_metric_of(manifest.task, self.recipe.options)
            return Incumbent(manifest.ref, manifest.task, note=f"{name} cannot be computed of both on these rows")
        lacking = sorted(set(self.data.splits.labels) - set(manifest.labels))
        notes = [f"rows of {len(lacking)} labels that it does not have count as its mistakes"] if lacking else []
        left_out = len(predicted) - len(fair)
        if left_out:
            notes.append(f"{left_out:,} of the {len(predicted):,} test rows are left out: it has learned from them")
        ours = comparison.ours if left_out else None
        earlier, note = self._on_earlier_rows(evaluator, theirs, promoted, known)
        return Incumbent(manifest.ref, manifest.task, comparison, "; ".join(notes), ours, tuple(lacking), earlier, note)

    def _compare(
        self, ours: Evaluator, theirs: Evaluator, rows: Sequence[Row], mine: Sequence[Any]
    ) -> Comparison | None:
        """Both on these rows, of which the candidate has predicted `mine`; None where the metric cannot be computed."""
        read = theirs.predict_raw(rows, self._on_row("compare", len(rows)), answered=places_answered(mine))
        its = theirs.apply_calibration(read)
        name = primary_metric_of(self.recipe.task, self.recipe.options)
        return compare(ours.sample(rows, mine), theirs.sample(rows, its), name)

    def _on_earlier_rows(
        self, evaluator: Evaluator, theirs: Evaluator, promoted: ModelPath, known: Collection[str]
    ) -> tuple[Comparison | None, str]:
        """Both on the rows that the promoted version was tested on, and what to say of these.

        A candidate whose test rows came from the same bad file as its training rows is found out by these.
        """
        folder = self.job.datasets.get(str(promoted.manifest.lineage.get("dataset", "")))
        labels = evaluator.settings.labels
        rows, note = earlier_rows(promoted, folder, self.data, self.recipe.task, labels, known)
        if not rows:
            return None, note
        settings = replace(evaluator.settings, options={**evaluator.settings.options, "truncate": True})
        cutting = replace(evaluator, settings=settings)  # rows of another file may be longer than those of this one
        read = cutting.predict_raw(rows, self._on_row("compare", len(rows)))
        found = self._compare(cutting, theirs, rows, cutting.apply_calibration(read))
        return found, note if found is not None else "the metric cannot be computed of both on these rows"

    def _on_row(self, phase: str, count: int) -> Callable[[int], None]:
        return lambda done: self.channel.report(Progress(phase, done, count, "rows"))

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


def earlier_rows(
    promoted: ModelPath, folder: str | None, data: LoadedData, task: str, labels: Sequence[str], known: Collection[str]
) -> tuple[list[Row], str]:
    """Test rows of the promoted version with labels that the candidate has, and what to say of them.

    `folder` has its dataset, if the store still has it. Rows that it has learned from (`known`) are left out. So are
    those that this run has too: they are compared already, or learned. But if it is shown to have other labels for more
    than `MOST_CORRECTED` of these, its file contradicts the earlier rows rather than correcting them; then all of them
    are taken, with the labels that they had, but for those that the run has learned with that very label.
    """
    manifest = promoted.manifest
    if folder is None:
        return [], f"the rows that {manifest.ref} was tested on are not known"
    try:
        stored = stored_test_rows(folder, manifest.task, manifest.options)
    except BadInput as error:
        return [], error.message
    some = data.splits.test[:1]
    alike = [row for row in stored if type(row) is type(some[0])]
    if not alike:
        return [], "there are none" if not stored else "the rows that it was tested on have another form"
    stored = [row for row in alike if key_of(row) not in known]
    rows = _of_labels(task, stored, labels)
    notes: list[str] = []
    if learned := sum(key_of(row) in known for row in alike):
        notes.append(f"without {learned:,} that {manifest.ref} has learned from")
    if len(stored) > len(rows):
        notes.append(f"without {len(stored) - len(rows):,} of labels that it does not have")
    targets = _targets(data)
    shared = [row for row in rows if key_of(row) in targets]
    changed = sum(_target_of(row) not in targets[key_of(row)] for row in shared) if labels else 0
    if len(shared) >= LEAST_SHARED and changed and wilson(changed, len(shared)).low > MOST_CORRECTED:
        notes.append(f"{changed:,} of which have other labels in the new rows")
        learned_as = _learned_as(data)
        rows = [row for row in rows if (key_of(row), _target_of(row)) not in learned_as]
    else:
        rows = [row for row in rows if key_of(row) not in targets]
        if shared and not rows:
            notes.append(SAME if labels else NOT_TOLD)
    most = min(len(rows), MOST_EARLIER)
    return [rows[at * len(rows) // most] for at in range(most)], " and ".join(notes)


def _targets(data: LoadedData) -> dict[str, set[str]]:
    """The targets of each text of a run, in any split, by its key."""
    found: dict[str, set[str]] = {}
    for rows in data.splits.by_name().values():
        for row in rows:
            found.setdefault(key_of(row), set()).add(_target_of(row))
    return found


def _target_of(row: Row) -> str:
    """What is to be learned, as text; many labels are equal in any order."""
    return repr(sorted(row.labels)) if isinstance(row, LabelRow) and row.is_multi else row.target


def _learned_as(data: LoadedData) -> set[tuple[str, str]]:
    """The texts that the candidate was fitted or chosen on, each with its target."""
    return {(key_of(row), _target_of(row)) for rows in (data.splits.train, data.splits.validation) for row in rows}


def _of_labels(task: str, rows: Sequence[Row], labels: Sequence[str]) -> list[Row]:
    """The rows whose labels are all among these; all rows of a task without labels."""
    family = rows_of(task)

    def is_known(some: Sequence[Row]) -> bool:
        try:
            family.refuse_unknown(some, labels)
        except BadInput:
            return False
        return True

    return list(rows) if is_known(rows) else [row for row in rows if is_known([row])]


def comparison_json(incumbent: Incumbent, metric: str) -> dict[str, Json]:
    """For the evidence; `ours` is null where all test rows were compared."""
    found, earlier = incumbent.comparison, incumbent.earlier
    said: dict[str, Json] = {
        "ref": incumbent.ref,
        metric: found and found.theirs,
        "ours": incumbent.ours,
        "note": incumbent.note,
    }
    if earlier is not None or incumbent.earlier_note:
        said["earlier"] = {**(earlier.plain() if earlier else {}), "note": incumbent.earlier_note}
    if found is None:
        return said
    return {**found.plain(), **said, "our_metric": found.ours}
