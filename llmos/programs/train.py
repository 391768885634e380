"""train: from a recipe to a candidate with its evidence and the gate's verdict, all of it offered to the store."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from llmos.abi.error import BadInput
from llmos.abi.form import INT8
from llmos.abi.frame import Accepted, Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.method import has_adapter, is_on_base
from llmos.abi.model import Kind, Manifest, Offer, OfferKind, Verdict, content_digest
from llmos.abi.objective import objective_in, primary_metric_of, takes_preferences
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import Recipe, check, distillation_of, identity_of, settings_of_method
from llmos.abi.task import spec_of
from llmos.abi.wire import from_plain, to_plain
from llmos.data.dataset import LoadedData, gather, keep, training_keys
from llmos.data.datasets.dataset_reader import row_options
from llmos.data.families import rows_of
from llmos.data.splits import key_of
from llmos.evaluation import calibrate, gate
from llmos.evaluation.calibration_evidence import measure
from llmos.evaluation.conditions.condition import GateFacts, Incumbent
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.evaluator import Evaluator, load_evaluator
from llmos.evaluation.evidence import Evidence
from llmos.evaluation.families import calibrated_family
from llmos.evaluation.frozen_evidence import TextVectors, measure_curve, with_near_rows
from llmos.evaluation.generation_eval import chosen_of, places_answered, said_of_answers
from llmos.evaluation.judge import RowFindings
from llmos.evaluation.predictions import predict
from llmos.evaluation.statistics.comparison import compare
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.nn.load import load
from llmos.nn.text.unknown_text import unknown_note
from llmos.programs.augment_training import AugmentedTraining, augment_training, fitting
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_version import offer_dataset
from llmos.programs.distilled import Distilled
from llmos.programs.preference_training import FORM, reading_options, with_form, with_objective
from llmos.programs.quantize import MeasuredRows, quantize_model
from llmos.programs.resident import with_resident
from llmos.programs.teaching import Lessons, ask_teacher, taught_data
from llmos.tasks import Settings
from llmos.training.candidate import Candidate, begin
from llmos.training.checkpoint import Checkpoints
from llmos.training.distillation import SoftLabelLoss, SoftManyLabelsLoss
from llmos.training.losses import balance_labels
from llmos.training.objectives import loss_of
from llmos.training.objectives.objective import Loss
from llmos.training.recipe import resolve
from llmos.training.trackers import open_tracker
from llmos.training.trackers.tracker import Tracker
from llmos.training.trainer import Hooks, Trainer

SAMPLE_ROWS = 2_000  # whose texts are looked at for what the base's tokenizer does not know
DATASET_OFFER, MODEL_OFFER = 1, 2
PARTS = ("data", "lora", "options", "method_settings", "objective_settings")  # of a recipe, which have settings
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
    lessons = Lessons()
    if recipe.teacher:
        data = taught_data(data, assignment.models["teacher"])
        try:
            lessons = ask_teacher(channel, assignment, recipe, data)
        except Stopped:
            print("Stopped while the teacher answered; it is asked again", flush=True)
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
        self.unknown = ""  # that the base knows too few characters of these rows
        self.self_training: dict[str, Json] = {}  # what the evidence says of rows without labels
        self.chosen = ""  # which trial of a search it is
        self.tracker: Tracker | None = None
        self.many = bool(recipe.options.get("multi_label", False))
        torch.set_num_threads(assignment.threads or len(os.sched_getaffinity(0)))

    def run(self) -> None:
        """Train, and offer the candidate with its evidence."""
        try:
            if self.recipe.data.unlabelled and not self.recipe.teacher:
                self._run_self_trained()
            else:
                self._run_once()
        finally:
            if self.tracker is not None:
                self.tracker.close()

    def _run_once(self) -> None:
        try:
            evaluator, run = self.begin(lambda: self.channel.stop_asked)
        except Stopped:
            print("Stopped before the first step; what the base says of the answers is kept", flush=True)
            return
        evaluator.examples(self.data.splits.test)  # a row that is too long is refused now
        dataset = self.offer_dataset()
        self._track()
        if run.resume():
            print(f"Goes on from step {run.position.step:,}", flush=True)
        if run.train():
            self.finish(evaluator, run, dataset)

    def _track(self) -> None:
        """Open the recipe's tracker, and give it the settings."""
        if not self.recipe.track:
            return
        run = f"{self.recipe.name}-{self.assignment.pid}"
        folder = Path(self.assignment.tracks or self.scratch)
        self.tracker = open_tracker(self.recipe.track, folder, run, lambda said: print(said, flush=True))
        plain = to_plain(self.recipe)
        settings = {f"{part}.{key}": value for part in PARTS for key, value in plain.pop(part).items()}
        self.tracker.parameters({**plain, **settings})
        print(f"{self.recipe.track}: {folder / self.recipe.track / run}", flush=True)

    def _track_figures(self, part: str, figures: Mapping[str, float], step: int) -> None:
        if self.tracker is not None:
            self.tracker.scalars({f"{part}/{key}": value for key, value in figures.items()}, step)

    def _run_self_trained(self) -> None:
        """As `_run_once`, with rows that get their labels from models of this run."""
        from llmos.programs.fitting import Fitting  # what other runs do not need
        from llmos.programs.self_training import SelfTraining, rows_to_learn

        fit = Fitting(self.assignment, self.recipe, self.data, self.base, self._report, lambda: self.channel.stop_asked)
        evaluator = fit.begin()
        self.unknown = self._look_for_unknown_text(evaluator.candidate)
        train = [*evaluator.examples(self.data.splits.train), *fitting(evaluator, self.augmented.rows)]
        evaluator.examples([*self.data.splits.validation, *self.data.splits.test])  # too long a row is refused now
        rows = rows_to_learn(self.recipe, self.assignment, self.data)
        dataset = self.offer_dataset()
        self._track()
        learning = SelfTraining(fit, rows, self._digest())
        if not (learning.run() and learning.prepare(evaluator)):
            return
        fit, learned, digest = learning.fit_last(evaluator, train)
        self.recipe, self.self_training = fit.recipe, learning.evidence()
        run, is_done = fit.fit(evaluator, learned, digest)
        if is_done:
            self.finish(evaluator, run, dataset)

    def begin(self, stop_asked: Callable[[], bool]) -> tuple[Evaluator, Trainer]:
        """The evaluator of a fresh candidate, and its trainer, which has read no checkpoint yet.

        Stopped if the process is asked to stop while the base says what it thinks of preferences.
        """
        splits, dtype = self.data.splits, self.recipe.dtype or "float32"
        candidate = begin(self.base, self.recipe, len(splits.labels), dtype, self.assignment.device)
        evaluator = Evaluator(candidate, self.recipe.task, self._settings(candidate))
        self.unknown = self._look_for_unknown_text(candidate)
        rows, validation = evaluator.examples(splits.train), evaluator.examples(splits.validation)
        taught = self.lessons.examples(evaluator, rows) if self.recipe.teacher else rows
        train = [*taught, *fitting(evaluator, self.augmented.rows)]
        checkpoints, digest = self.scratch / "checkpoints", self._digest()
        if objective_in(self.recipe.options):
            train, validation = with_objective(
                self.channel, self.recipe, candidate, train, validation, checkpoints, digest
            )

        def validate() -> float:
            predicted = predict(candidate, self.recipe.task, validation, evaluator.settings)
            return evaluator.primary_metric(splits.validation, predicted)

        weights = None
        if self.recipe.class_weights == "balanced":
            weights = balance_labels(train, len(splits.labels)).to(candidate.device)
        run = Trainer(
            candidate,
            self._loss(weights, candidate),
            train,
            self.recipe,
            Checkpoints(checkpoints),
            Hooks(self._report, stop_asked, validate),
            digest,
        )
        return evaluator, run

    def _loss(self, weights: torch.Tensor | None, candidate: Candidate) -> Loss:
        """The task's loss; with a teacher, that of its soft targets."""
        labels = len(self.data.splits.labels)
        if not self.recipe.teacher:
            return loss_of(self.recipe, labels, weights, candidate.head)
        how = distillation_of(self.recipe)
        return SoftManyLabelsLoss(how, labels) if self.many else SoftLabelLoss(how)

    def _look_for_unknown_text(self, candidate: Candidate) -> str:
        """A sentence, which is reported, if the tokenizer does not know much of a sample of the training texts."""
        rows = self.data.splits.train
        texts = [" ".join(row.texts) for row in rows[:: max(1, len(rows) // SAMPLE_ROWS)]]
        note = unknown_note(candidate.loaded.tokenizer.unknown(texts), self.base.manifest.ref)
        if note:
            self._report(Progress("read", 1, 1, message=note))
        return note

    def _report(self, progress: Progress) -> None:
        if progress.phase == "train":
            figures = {key: value for key, value in progress.figures.items() if key != "eta_s"}
            self._track_figures("train", figures, int(progress.done))
        self.channel.report(progress)
        if progress.message:
            print(progress.message, flush=True)

    def _settings(self, candidate: Candidate) -> Settings:
        limit = candidate.loaded.max_tokens
        asked = self.recipe.options.get("max_tokens")
        if asked is not None and not 8 <= int(asked) <= limit:
            raise BadInput(f"max_tokens is {asked}; this base takes from 8 to {limit:,}", key="max_tokens", limit=limit)
        return Settings(self.data.splits.labels, self.recipe.options, limit)

    def _digest(self) -> str:
        """The digest of everything that must be unchanged to continue from a checkpoint."""
        seen = hashlib.sha256(identity_of(self.recipe))
        seen.update(self.data.digest().encode())
        seen.update((self.base.manifest.base_digest or self.base.manifest.ref).encode())
        seen.update(self.augmented.digest.encode())  # nothing where no row was added
        seen.update(self.lessons.digest.encode())
        return seen.hexdigest()

    def offer_dataset(self) -> str:
        """Offer the rows as a dataset; returns its ref."""
        written = keep(self.data, self.recipe.task, self.scratch / "dataset", row_options(self.recipe.options))
        return offer_dataset(
            self.channel,
            self.assignment,
            written,
            name=self.recipe.name,
            parents=self._parents(),
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
        """Calibrate and evaluate the trained candidate, decide, and offer it."""
        evaluator = self._calibrate(evaluator, run)
        task, rows, settings = self.recipe.task, self.data.splits.test, evaluator.settings
        on_answer = self._evaluate("answer", chosen_of(len(rows), settings))
        raw = evaluator.predict_raw(rows, self._evaluate("evaluate", rows), on_answer)
        predicted = evaluator.apply_calibration(raw)
        judged = evaluator.judge(rows, predicted)
        name = primary_metric_of(task, self.recipe.options)
        self._report(Progress("examine", message="slices and errors"))
        stored = self.data.stored.get("test", ())
        findings = evaluator.examine(rows, predicted, [one.id for one in stored], [one.extra for one in stored])
        findings = findings.with_checks(self.assignment.checks.values())
        incumbent = self._incumbent(evaluator, predicted)
        folder = self.scratch / "model"
        saved = evaluator.candidate.save(folder, self.base)
        decision = gate.decide(
            self.assignment.gate,
            GateFacts(
                task=task,
                metric=name,
                result=judged,
                margin=self.assignment.gate.margin,
                incumbent=incumbent,
                size_bytes=sum((folder / path).stat().st_size for path, _ in saved),
                rows=rows,
                predicted=predicted,
                raw=raw,
                findings=findings,
                evaluator=evaluator,
            ),
            self.recipe.min_metric,
            self.recipe.options.get("abstain"),
        )
        verdict = decision.verdict
        learning, findings = self._by_frozen_vectors(findings, settings)
        distilled = self._against_teacher(evaluator, predicted, folder)
        evidence = Evidence(
            title=f"{self.recipe.name} on {self.base.manifest.ref}",
            task=task,
            headline=name,
            judged=judged,
            rows=self.data.counts(),
            verdict=verdict.reason,
            is_promoted=verdict.promote,
            compared={} if incumbent is None else _comparison_json(incumbent, name),
            gate=decision.plain(self.assignment.gate.margin),
            leaks=tuple(map(str, self.data.leaks)),
            facts=self._facts(run, dataset) | said_of_answers(task, len(rows), settings) | _of_teacher(distilled),
            calibration=measure(task, rows, raw, settings),
            validated="likelihood" if spec_of(task).is_generative and name == spec_of(task).primary_metric else "",
            losses=run.position.losses,
            marks=run.position.marks,
            distillation=distilled,
            self_training=self.self_training,
            augmentation=self.augmented.compared_with(self.assignment.models.get("promoted"), self.recipe, self.data),
            findings=findings,
            learning=learning,
        )
        files = (*saved, *calibrate.write(settings.calibration, folder), *evidence.write(folder))
        draft = self._draft(settings, evidence, run, dataset, folder)
        offer = Offer(MODEL_OFFER, OfferKind.MODEL, self.recipe.name, str(folder), files, draft, verdict)
        accepted = self.channel.offer(offer)
        last = _last(accepted.ref, verdict, judged)
        if self.recipe.serve_dtype == INT8:
            last = replace(last, message=f"{last.message}. {self._in_int8(accepted, draft, verdict)}")
        self._track_figures("test", judged.metrics, run.position.step)
        self._report(last)

    def _by_frozen_vectors(self, findings: RowFindings, settings: Settings) -> tuple[dict[str, Json], RowFindings]:
        """The learning curve, and the findings with the training rows near to errors; nothing of a base without
        vectors, or where the recipe leaves it out."""
        if not self.recipe.learning_curve:
            return {}, findings
        task, splits = self.recipe.task, self.data.splits
        self._report(Progress("examine", message="what fewer training rows give"))
        try:
            encoder = TextVectors(
                FrozenEncoder(self.base, device=self.assignment.device, threads=self.assignment.threads)
            )
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
        predicted = evaluator.predict_raw(rows, self._evaluate("calibrate", rows))
        has_chosen = self.recipe.save_best or self.recipe.patience is not None
        tries = max(1, len(run.position.marks)) if has_chosen else 1
        calibration = calibrate.fit(self.recipe.task, rows, predicted, evaluator.settings, tries=tries)
        return replace(evaluator, settings=replace(evaluator.settings, calibration=calibration))

    def _against_teacher(self, evaluator: Evaluator, predicted: Sequence[Any], folder: Path) -> dict[str, Json]:
        """What the teacher's distillation has cost and gained; nothing without a teacher."""
        if not self.recipe.teacher:
            return {}
        splits, known = self.data.splits, self._training_keys(self.assignment.models["teacher"])
        student = Distilled(
            self.channel, self.assignment, self.recipe, evaluator, splits.test, predicted, self.base, folder
        )
        found = student.measure(self.lessons, len(splits.train), known)
        self._report(Progress("compare", message=f"Distilled from {found['summary']}"))
        return found

    def _in_int8(self, accepted: Accepted, draft: dict[str, Json], verdict: Verdict) -> str:
        """Make an int8 copy of the version if it loses little enough; returns a summary."""
        name, _, version = accepted.ref.partition(":")
        manifest = from_plain({**draft, "name": name, "version": int(version), "files": ()}, Manifest)
        model, limit = ModelPath(manifest, accepted.folder, base=self.base), self.recipe.max_drop
        stored = self.data.stored.get("test", ())
        rows = MeasuredRows(self.data.splits.test, [one.id for one in stored], [one.extra for one in stored])
        try:
            ref, said = quantize_model(self.channel, self.assignment, model, rows, limit, promotes=verdict.promote)
        except BadInput as error:
            return error.message
        except Stopped:
            return f"It was told to stop before int8 was measured: llmos quantize {manifest.ref}"
        return f"{ref} is the same in int8: {said}"

    def _reads_alike(self, other: ModelPath) -> bool:
        """Whether the other model's base has the same files: equal weights may still have another tokenizer."""
        theirs = other.base.manifest if other.base is not None else None
        return theirs is not None and content_digest(theirs.files) == content_digest(self.base.manifest.files)

    def _incumbent(self, evaluator: Evaluator, predicted: Sequence[Any]) -> Incumbent | None:
        """The promoted version, compared with this candidate on the test rows that it has not learned from."""
        promoted = self.assignment.models.get("promoted")
        if promoted is None:
            return None
        manifest = promoted.manifest
        if note := self._why_not_comparable(promoted):
            return Incumbent(manifest.ref, manifest.task, note=note)
        if manifest.task != self.recipe.task:
            return Incumbent(manifest.ref, manifest.task)
        known = self._training_keys(promoted)
        fair = [i for i, row in enumerate(self.data.splits.test) if key_of(row) not in known]
        if not fair:
            return Incumbent(manifest.ref, manifest.task, note="it has learned from every test row. Give a test file")
        rows, mine = [self.data.splits.test[i] for i in fair], [predicted[i] for i in fair]
        dtype = self.recipe.dtype or "float32"
        if is_on_base(manifest.method):
            promoted = with_resident(self.channel, self.assignment, promoted)
        theirs = load_evaluator(promoted, manifest.task, dtype, self.assignment.device)
        read = theirs.predict_raw(rows, self._evaluate("compare", rows), answered=places_answered(mine))
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
        return Incumbent(manifest.ref, manifest.task, comparison, "; ".join(notes), ours)

    def _why_not_comparable(self, promoted: ModelPath) -> str:
        """Why a model of the same task cannot be compared with; empty where it can, or does another task."""
        manifest = promoted.manifest
        if manifest.task != self.recipe.task:
            return ""
        if bool(manifest.options.get("multi_label", False)) != self.many:
            return "one gives one label to a text, the other many"
        if primary_metric_of(manifest.task, self.recipe.options) == "likelihood" and not self._reads_alike(promoted):
            return f"it stands on {manifest.base}, whose tokens are others, and each model's likelihood is of its own"
        return ""

    def _training_keys(self, model: ModelPath) -> frozenset[str]:
        """The keys of the rows that a version was trained on, if the store still has its dataset."""
        ref = str(model.manifest.lineage.get("dataset", ""))
        if ref not in self.assignment.datasets:
            self._report(
                Progress("compare", message=f"The rows that {model.manifest.ref} has learned from are not known")
            )
            return frozenset()
        return training_keys(self.assignment.datasets[ref], model.manifest.task, model.manifest.options)

    def _evaluate(self, phase: str, rows: Sequence[object]) -> Callable[[int], None]:
        return lambda done: self.channel.report(Progress(phase, done, len(rows), "rows"))

    def _parents(self) -> list[str]:
        """The datasets that the rows came from, if they came from such."""
        return sorted({one["dataset"] for one in self.data.sources.values() if "dataset" in one})

    def _facts(self, run: Trainer, dataset: str) -> dict[str, str]:
        recipe = self.recipe
        return {
            "base": self.base.manifest.ref,
            "dataset": ", of ".join([dataset, *self._parents()]),
            "method": _describe_method(recipe),
            **_describe_objective(recipe),
            "epochs": f"{recipe.epochs:g}",
            "learning rate": f"{recipe.learning_rate:g}, head {recipe.head_rate_ratio:g} times that",
            "batch": f"{recipe.batch_size} examples",
            "schedule": recipe.schedule,
            "seed": str(recipe.seed),
            "device": f"{self.assignment.device}, {recipe.dtype}, {run.position.threads} threads",
            "training": f"{run.position.trained_s:,.0f} s, {_rate(run):,.0f} examples/s",
            "kept": f"step {run.position.best_step if recipe.save_best else run.position.step:,}",
            **({"augmentation": self.augmented.summary} if self.augmented.summary else {}),
            **({"self-training": str(self.self_training["summary"])} if self.self_training else {}),
            **({"unknown text": self.unknown} if self.unknown else {}),
            **({"tuning": self.chosen} if self.chosen else {}),
        }

    def _resident(self, folder: Path) -> dict[str, Json]:
        """The bytes of the adapter as it is served; nothing for a method without one."""
        if not has_adapter(self.recipe.method):
            return {}
        fresh = load(self.base, dtype="float32", device=self.assignment.device)  # the candidate's layers are PEFT's
        return {"resident_bytes": load_adapter(folder, fresh.backbone, self.recipe.name).size_bytes}

    def _draft(
        self, settings: Settings, evidence: Evidence, run: Trainer, dataset: str, folder: Path
    ) -> dict[str, Json]:
        base = self.base.manifest
        lineage = {
            "process": self.assignment.pid,
            "offer": MODEL_OFFER,
            "recipe": to_plain(self.recipe),
            "dataset": dataset,
            "data": self.data.sources,
            "data_digest": self.data.digest(),
            "seed": self.recipe.seed,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
            "device": self.assignment.device,
            "threads": run.position.threads,
            **({"self_training": self.self_training} if self.self_training else {}),
            "steps": run.position.step,
            "kept_step": run.position.best_step if self.recipe.save_best else run.position.step,
            "trained_s": round(run.position.trained_s, 3),
            "rate": round(_rate(run), 3),
            **self._resident(folder),
            "epochs": [to_plain(mark) for mark in run.position.marks],
            **({"tuning": self.chosen} if self.chosen else {}),
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
            "source": f"train, pid {self.assignment.pid}",
        }


def _comparison_json(incumbent: Incumbent, metric: str) -> dict[str, Json]:
    """For the evidence; `ours` is null where all test rows were compared."""
    found = incumbent.comparison
    said = {"ref": incumbent.ref, metric: found and found.theirs, "ours": incumbent.ours, "note": incumbent.note}
    return {**found.plain(), **said, "our_metric": found.ours} if found is not None else said


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
    how = f"weight {distilled['weight']:g}, temperature {distilled['temperature']:g}"
    return {"distilled from": str(distilled["summary"]), "teacher's rows": f"{taught}; {how}"}


def _rate(run: Trainer) -> float:
    return run.position.step * run.size / max(run.position.trained_s, 1e-9)


def _last(ref: str, verdict: Verdict, judged: EvaluationResult) -> Progress:
    word = "is promoted" if verdict.promote else "stays a candidate"
    return Progress(DONE, 1, 1, "runs", dict(judged.metrics), f"{ref} {word}: {verdict.reason}", judged.bounds)
