"""What distilling a teacher has cost and gained: both on the same test rows, and both forward passes timed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe, distillation_of
from llmos.abi.task import spec_of
from llmos.data.splits import key_of
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.statistics.comparison import compare
from llmos.nn.speed import Passes, tokens_per_second
from llmos.programs.channel import Channel
from llmos.programs.teaching import Lessons, load_teacher
from llmos.training.candidate import Candidate, load_stored
from llmos.training.examples import Example, passes

SPEED_ROWS = 64  # test rows that speed is measured on
ROW_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Distilled:
    """The student of a run, with its predictions of the test rows, and the files that it will be served from."""

    channel: Channel
    job: Job
    recipe: Recipe
    evaluator: Evaluator
    rows: Sequence[Any]  # Any: rows and predictions of the task's family
    predicted: Sequence[Any]
    base: ModelPath
    folder: Path

    def measure(self, lessons: Lessons, labelled: int, known: frozenset[str]) -> dict[str, Json]:
        """For the evidence. Test rows whose keys the teacher has learned from are left out of the comparison."""
        teacher = self.job.models["teacher"]
        self.channel.report(Progress("compare", message=f"comparing with its teacher {teacher.manifest.ref}"))
        theirs = load_teacher(self.channel, self.job, self.recipe, teacher)
        how = distillation_of(self.recipe)
        said: dict[str, Json] = {
            "teacher": teacher.manifest.ref,
            "weight": how.weight,
            "temperature": how.temperature,
            "labelled": labelled,
            "unlabelled": len(lessons.unlabelled),
            **self._metrics(theirs, known),
            "speed": self._speeds(theirs),
            "bytes": {"teacher": _weights(theirs.candidate), "student": _weights(self.evaluator.candidate)},
        }
        return {**said, "summary": summary_of(said)}

    def _metrics(self, theirs: Evaluator, known: frozenset[str]) -> dict[str, Json]:
        name = spec_of(self.recipe.task).primary_metric
        fair = [i for i, row in enumerate(self.rows) if key_of(row) not in known]
        if not fair:
            return {"metric": name, "note": "the teacher has learned from every test row"}
        rows, mine = [self.rows[i] for i in fair], [self.predicted[i] for i in fair]
        its = theirs.predict(rows)
        found = compare(self.evaluator.sample(rows, mine), theirs.sample(rows, its), name)
        if found is None:
            return {"metric": name, "note": f"{name} cannot be computed of both on these rows"}
        return {**found.plain(), "rows": len(rows)}

    def _speeds(self, theirs: Evaluator) -> dict[str, Json]:
        """Tokens and rows per CPU second of both, on one core, by turns, as both are served."""
        student = replace(self.evaluator, candidate=self.as_served())
        return self._rates({"teacher": theirs, "student": student})

    def speed_of(self, one: Evaluator) -> dict[str, float]:
        """Tokens and rows per CPU second of one model alone."""
        return self._rates({"student": one})["student"]

    def _rates(self, models: Mapping[str, Evaluator]) -> dict[str, dict[str, float]]:
        rows = self.rows[:: max(1, len(self.rows) // SPEED_ROWS)][:SPEED_ROWS]
        counts: dict[str, int] = {}
        runs: dict[str, Passes] = {}
        for who, one in models.items():
            cut = replace(one, settings=replace(one.settings, options={**one.settings.options, "truncate": True}))
            runs[who], counts[who] = _passes(one.candidate, cut.examples(rows)), len(rows)
        rates = tokens_per_second(runs)
        return {
            who: {"tokens": round(rate, 1), "rows": round(rate / runs[who][1] * counts[who], 1)}
            for who, rate in rates.items()
        }

    def as_served(self) -> Candidate:
        """The student from its files: what is served is not what was trained, whose layers keep what gradients need."""
        recipe = self.recipe
        manifest = Manifest(
            recipe.name,
            1,
            Kind.MODEL,
            recipe.task,
            (),
            base=self.base.manifest.ref,
            method=recipe.method,
            labels=self.evaluator.settings.labels,
            options=recipe.options,
        )
        model = ModelPath(manifest, str(self.folder), base=self.base)
        return load_stored(model, recipe.dtype or self.job.dtype, self.job.device)


def _passes(candidate: Candidate, examples: Sequence[Example[Any]]) -> Passes:
    sizes = [one.size for one in examples]
    parts = list(passes(range(len(examples)), sizes, ROW_TOKENS))
    candidate.train(False)

    def compute() -> object:
        return [candidate.logits([ids for i in part for ids in examples[i].sequences]) for part in parts]

    return compute, sum(sizes)


def _weights(candidate: Candidate) -> int:
    """The bytes of a model's weights in memory, its base's and its head's."""
    return candidate.loaded.weights_bytes + sum(one.nbytes for one in candidate.head.parameters())


def summary_of(said: Mapping[str, Json]) -> str:
    """One sentence: points lost or gained, and how many times as fast."""
    speed, name = said["speed"], str(said["metric"]).replace("_", " ")
    fast = speed["student"]["rows"] / max(speed["teacher"]["rows"], 1e-9)
    small = said["bytes"]["teacher"] / max(said["bytes"]["student"], 1)
    if said.get("ours") is None:
        points = f"{name} not compared: {said.get('note')}"
    else:
        ends = f" ({said['low']:+.3f} to {said['high']:+.3f})"
        points = f"{name} {said['ours']:.3f} for {said['theirs']:.3f}, {said['ours'] - said['theirs']:+.3f}{ends}"
    tokens = f"{speed['student']['tokens']:,.0f} tokens a CPU second for {speed['teacher']['tokens']:,.0f}"
    return f"{said['teacher']}: {points}; {fast:.1f} times its speed ({tokens}), {small:.1f} times smaller"
