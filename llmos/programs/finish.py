"""The end of a training run: its candidate is calibrated, judged on the test rows, and offered with its evidence."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.form import INT8
from llmos.abi.frame import Accepted, Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.method import has_adapter
from llmos.abi.model import Kind, Manifest, Offer, OfferKind, Verdict
from llmos.abi.objective import objective_in, primary_metric_of
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import Recipe, settings_of_method
from llmos.abi.task import spec_of
from llmos.abi.wire import from_plain, to_plain
from llmos.data.dataset import LoadedData
from llmos.evaluation import calibrate, gate
from llmos.evaluation.calibration_evidence import measure
from llmos.evaluation.conditions.condition import GateFacts, Incumbent
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.evidence import Evidence
from llmos.evaluation.families import calibrated_family
from llmos.evaluation.frozen_evidence import TextVectors, measure_curve, with_near_rows
from llmos.evaluation.generation_eval import chosen_of, said_of_answers
from llmos.evaluation.judge import RowFindings
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.nn.load import load
from llmos.programs.augment_training import AugmentedTraining
from llmos.programs.channel import Channel, Stopped
from llmos.programs.distilled import Distilled
from llmos.programs.incumbent import PromotedVersion, comparison_json, known_keys
from llmos.programs.preference_training import FORM
from llmos.programs.quantize import MeasuredRows, quantize_model
from llmos.programs.teaching import Lessons
from llmos.tasks import Settings
from llmos.training.trainer import Trainer

MODEL_OFFER = 2
VERSIONS = ("llmos", "torch", "transformers", "peft", "tokenizers")


@dataclass(slots=True)
class Remarks:
    """What the evidence says beside figures, as the run finds it."""

    unknown: str = ""  # that the base knows too few characters of these rows
    self_training: dict[str, Json] = field(default_factory=dict)  # of rows without labels
    chosen: str = ""  # which trial of a search it is
    few: str = ""  # how few labelled rows were learned


@dataclass(frozen=True, slots=True)
class OnTestRows:
    """What a candidate predicts of the test rows, before and after calibration, and what that says of it."""

    raw: Sequence[Any]  # Any: predictions of the task's family
    predicted: Sequence[Any]
    judged: EvaluationResult
    findings: RowFindings
    incumbent: Incumbent | None


@dataclass(frozen=True, slots=True)
class Finish:
    """What the end of a run needs of it."""

    channel: Channel
    job: Job
    recipe: Recipe
    data: LoadedData
    base: ModelPath
    augmented: AugmentedTraining
    lessons: Lessons
    remarks: Remarks
    report: Callable[[Progress], None]

    def offer(self, evaluator: Evaluator, run: Trainer, dataset: str) -> Progress:
        """Calibrate and evaluate the trained candidate, decide, and offer it; the run's last report."""
        evaluator = self._calibrate(evaluator, run)
        settings, on_test = evaluator.settings, self._measure(evaluator)
        folder = Path(self.job.scratch) / "model"
        saved = evaluator.candidate.save(folder, self.base)
        decision = self._decide(evaluator, on_test, sum((folder / path).stat().st_size for path, _ in saved))
        verdict = decision.verdict
        evidence = self._evidence(evaluator, run, dataset, on_test, decision, folder)
        files = (*saved, *calibrate.write(settings.calibration, folder), *evidence.write(folder))
        draft = self._draft(settings, evidence, run, dataset, folder)
        offer = Offer(MODEL_OFFER, OfferKind.MODEL, self.recipe.name, str(folder), files, draft, verdict)
        accepted = self.channel.offer(offer)
        last = _last(accepted.ref, verdict, on_test.judged)
        if self.recipe.serve_dtype == INT8:
            last = replace(last, message=f"{last.message}. {self._in_int8(accepted, draft, verdict)}")
        return last

    def _measure(self, evaluator: Evaluator) -> OnTestRows:
        """What the calibrated candidate says of the test rows, how right it is, and what the promoted version says."""
        rows = self.data.splits.test
        on_answer = self._evaluate("answer", chosen_of(len(rows), evaluator.settings))
        raw = evaluator.predict_raw(rows, self._evaluate("evaluate", rows), on_answer)
        predicted = evaluator.apply_calibration(raw)
        judged = evaluator.judge(rows, predicted)
        self.report(Progress("examine", message="slices and errors"))
        stored = self.data.stored.get("test", ())
        findings = evaluator.examine(rows, predicted, [one.id for one in stored], [one.extra for one in stored])
        findings = findings.with_checks(self.job.checks.values())
        promoted = PromotedVersion(self.channel, self.job, self.recipe, self.data, self.base)
        return OnTestRows(raw, predicted, judged, findings, promoted.compare_with(evaluator, predicted))

    def _decide(self, evaluator: Evaluator, on_test: OnTestRows, size_bytes: int) -> gate.Decision:
        facts = GateFacts(
            task=self.recipe.task,
            metric=primary_metric_of(self.recipe.task, self.recipe.options),
            result=on_test.judged,
            margin=self.job.gate.margin,
            incumbent=on_test.incumbent,
            size_bytes=size_bytes,
            rows=self.data.splits.test,
            predicted=on_test.predicted,
            raw=on_test.raw,
            findings=on_test.findings,
            evaluator=evaluator,
        )
        return gate.decide(self.job.gate, facts, self.recipe.min_metric, self.recipe.options.get("abstain"))

    def _evidence(
        self,
        evaluator: Evaluator,
        run: Trainer,
        dataset: str,
        on_test: OnTestRows,
        decision: gate.Decision,
        folder: Path,
    ) -> Evidence:
        """All that is known of the candidate, which is saved in this folder."""
        task, rows, settings, incumbent = self.recipe.task, self.data.splits.test, evaluator.settings, on_test.incumbent
        name = primary_metric_of(task, self.recipe.options)
        learning, findings = self._by_frozen_vectors(on_test.findings, settings)
        distilled = self._against_teacher(evaluator, on_test.predicted, folder)
        return Evidence(
            title=f"{self.recipe.name} on {self.base.manifest.ref}",
            task=task,
            headline=name,
            judged=on_test.judged,
            rows=self.data.counts(),
            verdict=decision.verdict.reason,
            is_promoted=decision.verdict.promote,
            compared={} if incumbent is None else comparison_json(incumbent, name),
            gate=decision.plain(self.job.gate.margin),
            leaks=tuple(map(str, self.data.leaks)),
            facts=self._facts(run, dataset) | said_of_answers(task, len(rows), settings) | _of_teacher(distilled),
            calibration=measure(task, rows, on_test.raw, settings),
            validated="likelihood" if spec_of(task).is_generative and name == spec_of(task).primary_metric else "",
            losses=run.position.losses,
            marks=run.position.marks,
            distillation=distilled,
            self_training=self.remarks.self_training,
            augmentation=self.augmented.compared_with(self.job.models.get("promoted"), self.recipe, self.data),
            findings=findings,
            learning=learning,
        )

    def _by_frozen_vectors(self, findings: RowFindings, settings: Settings) -> tuple[dict[str, Json], RowFindings]:
        """The learning curve, and the findings with the training rows near to errors; nothing of a base without
        vectors, or where the recipe leaves it out."""
        if not self.recipe.learning_curve:
            return {}, findings
        task, splits = self.recipe.task, self.data.splits
        self.report(Progress("examine", message="what fewer training rows give"))
        try:
            encoder = TextVectors(FrozenEncoder(self.base, device=self.job.device, threads=self.job.threads))
        except BadInput as error:
            print(f"No learning curve: {error.message}", flush=True)
            return {}, findings
        learning = measure_curve(encoder, task, splits.train, splits.test, settings)
        return learning, with_near_rows(encoder, task, splits.train, findings, settings)

    def _calibrate(self, evaluator: Evaluator, run: Trainer) -> Evaluator:
        """The evaluator of the trained model with a calibration of its head, fitted on the validation rows."""
        if calibrated_family(self.recipe.task) is None:
            return evaluator
        rows = self.data.splits.validation
        if not rows:  # all were learned: there is nothing to calibrate on
            return evaluator
        predicted = evaluator.predict_raw(rows, self._evaluate("calibrate", rows))
        has_chosen = self.recipe.save_best or self.recipe.patience is not None
        tries = max(1, len(run.position.marks)) if has_chosen else 1
        calibration = calibrate.fit(self.recipe.task, rows, predicted, evaluator.settings, tries=tries)
        return replace(evaluator, settings=replace(evaluator.settings, calibration=calibration))

    def _against_teacher(self, evaluator: Evaluator, predicted: Sequence[Any], folder: Path) -> dict[str, Json]:
        """What the teacher's distillation has cost and gained; nothing without a teacher."""
        if not self.recipe.teacher:
            return {}
        if self.lessons.told is not None:
            from llmos.programs.told_answers import compare_told  # only of a teacher that answers in words

            parts = self.channel, self.job, self.recipe, evaluator, self.data.splits.test, predicted
            found = compare_told(Distilled(*parts, self.base, folder), self.lessons.told)
            self.report(Progress("compare", message=f"Distilled from {found['summary']}"))
            return found
        splits, known = self.data.splits, known_keys(self.job, self.job.models["teacher"], self.report)
        student = Distilled(self.channel, self.job, self.recipe, evaluator, splits.test, predicted, self.base, folder)
        found = student.measure(self.lessons, len(splits.train), known)
        self.report(Progress("compare", message=f"Distilled from {found['summary']}"))
        return found

    def _in_int8(self, accepted: Accepted, draft: dict[str, Json], verdict: Verdict) -> str:
        """Make an int8 copy of the version if it loses little enough; returns a summary."""
        name, _, version = accepted.ref.partition(":")
        manifest = from_plain({**draft, "name": name, "version": int(version), "files": ()}, Manifest)
        model, limit = ModelPath(manifest, accepted.folder, base=self.base), self.recipe.max_drop
        stored = self.data.stored.get("test", ())
        rows = MeasuredRows(self.data.splits.test, [one.id for one in stored], [one.extra for one in stored])
        try:
            ref, said = quantize_model(self.channel, self.job, model, rows, limit, promotes=verdict.promote)
        except BadInput as error:
            return error.message
        except Stopped:
            return f"It was told to stop before int8 was measured: llmos quantize {manifest.ref}"
        return f"{ref} is the same in int8: {said}"

    def _evaluate(self, phase: str, rows: Sequence[object]) -> Callable[[int], None]:
        return lambda done: self.channel.report(Progress(phase, done, len(rows), "rows"))

    def _facts(self, run: Trainer, dataset: str) -> dict[str, str]:
        recipe = self.recipe
        return {
            "base": self.base.manifest.ref,
            "dataset": ", of ".join([dataset, *parents_of(self.data)]),
            "method": _describe_method(recipe),
            **({"why this method": recipe.method_why} if recipe.method_why else {}),
            **_describe_objective(recipe),
            "epochs": f"{recipe.epochs:g}",
            "learning rate": f"{recipe.learning_rate:g}, head {recipe.head_rate_ratio:g} times that",
            "batch": f"{recipe.batch_size} examples",
            "schedule": recipe.schedule,
            "seed": str(recipe.seed),
            "device": f"{self.job.device}, {recipe.dtype}, {run.position.threads} threads",
            "training": f"{run.position.trained_s:,.0f} s, {_rate(run):,.0f} examples/s",
            "kept": f"step {run.kept_step:,}",
            **({"augmentation": self.augmented.summary} if self.augmented.summary else {}),
            **({"self-training": str(self.remarks.self_training["summary"])} if self.remarks.self_training else {}),
            **({"unknown text": self.remarks.unknown} if self.remarks.unknown else {}),
            **({"tuning": self.remarks.chosen} if self.remarks.chosen else {}),
            **({"few labels": self.remarks.few} if self.remarks.few else {}),
        }

    def _resident(self, folder: Path) -> dict[str, Json]:
        """The bytes of the adapter as it is served; nothing for a method without one."""
        if not has_adapter(self.recipe.method):
            return {}
        fresh = load(self.base, dtype="float32", device=self.job.device)  # the candidate's layers are PEFT's
        return {"resident_bytes": load_adapter(folder, fresh.backbone, self.recipe.name).size_bytes}

    def _draft(
        self, settings: Settings, evidence: Evidence, run: Trainer, dataset: str, folder: Path
    ) -> dict[str, Json]:
        base = self.base.manifest
        lineage = {
            "process": self.job.pid,
            "offer": MODEL_OFFER,
            "recipe": to_plain(self.recipe),
            "dataset": dataset,
            "data": self.data.sources,
            "data_digest": self.data.digest(),
            "seed": self.recipe.seed,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
            "device": self.job.device,
            "threads": run.position.threads,
            **({"self_training": self.remarks.self_training} if self.remarks.self_training else {}),
            **({"few_labels": self.remarks.few} if self.remarks.few else {}),
            "steps": run.position.step,
            "kept_step": run.kept_step,
            "trained_s": round(run.position.trained_s, 3),
            "rate": round(_rate(run), 3),
            **self._resident(folder),
            "epochs": [to_plain(mark) for mark in run.position.marks],
            **({"tuning": self.remarks.chosen} if self.remarks.chosen else {}),
        }
        return {
            "kind": Kind.MODEL,
            "task": self.recipe.task,
            "base": base.ref,
            "base_digest": base.base_digest,
            "method": self.recipe.method,
            "architecture": base.architecture,
            "labels": list(settings.labels),
            "options": {"max_tokens": settings.max_tokens, **_without_form(self.recipe.options)},
            "evidence": evidence.plain(),
            "lineage": lineage,
            "license": base.license,
            "source": f"train, pid {self.job.pid}",
        }


def parents_of(data: LoadedData) -> list[str]:
    """The datasets that the rows came from, if they came from such."""
    return sorted({one["dataset"] for one in data.sources.values() if "dataset" in one})


def _without_form(options: dict[str, Json]) -> dict[str, Json]:
    """The options without how the rows of this run were read: rows to evaluate may be of another form."""
    return {key: value for key, value in options.items() if key != FORM}


def _describe_objective(recipe: Recipe) -> dict[str, str]:
    """The objective on preferences with its settings, for the evidence."""
    spec = objective_in(recipe.options)
    if spec is None:
        return {}
    values = spec.values(recipe.objective_settings).items()
    return {"objective": ", ".join([spec.name, *(f"{key} {value:g}" for key, value in values)])}


def _describe_method(recipe: Recipe) -> str:
    """The method, and those of its settings that have a value."""
    values = {key: value for key, value in settings_of_method(recipe).items() if value not in (None, False)}
    return ", ".join([recipe.method, *(f"{key} {value}" for key, value in values.items())])


def _of_teacher(distilled: dict[str, Json]) -> dict[str, str]:
    """For the table of facts; nothing where there was no teacher."""
    if not distilled:
        return {}
    taught = f"{distilled['labelled']:,} labelled rows and {distilled['unlabelled']:,} without labels"
    if "refused" in distilled:
        left_out = f"{distilled['refused']:,} of {distilled['asked']:,} answers were left out"
        return {"distilled from": str(distilled["summary"]), "teacher's rows": f"{taught}; {left_out}"}
    how = f"weight {distilled['weight']:g}, temperature {distilled['temperature']:g}"
    return {"distilled from": str(distilled["summary"]), "teacher's rows": f"{taught}; {how}"}


def _rate(run: Trainer) -> float:
    return run.position.step * run.size / max(run.position.trained_s, 1e-9)


def _last(ref: str, verdict: Verdict, judged: EvaluationResult) -> Progress:
    word = "is promoted" if verdict.promote else "stays a candidate"
    return Progress(DONE, 1, 1, "runs", dict(judged.metrics), f"{ref} {word}: {verdict.reason}", judged.bounds)
