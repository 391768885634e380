"""evaluate: any model of the store on any labelled rows; the last report has the metrics, two files are the evidence.

Arguments: `model`, `data`, `options`, the `task` of a generative base, and the machine's own `reports`: the folder
where the evidence is kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llmos.abi.error import BadInput, WrongTask
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.method import is_on_base
from llmos.abi.model import Kind, Manifest
from llmos.abi.objective import DETECT, takes_preferences
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import Data
from llmos.abi.task import (
    PREFERENCES,
    Family,
    generative_tasks,
    is_generative,
    recipe_options,
    spec_of,
    trainable_tasks,
)
from llmos.abi.wire import from_plain
from llmos.data.dataset import test_rows, training_keys
from llmos.data.families import rows_of
from llmos.data.row import Row, Rows
from llmos.data.splits import EXAMPLES, Leak, key_of
from llmos.evaluation.calibration_evidence import is_out_of_scope, measure
from llmos.evaluation.evaluator import load_evaluator
from llmos.evaluation.evidence import PAGE, Evidence
from llmos.evaluation.families import SERVED, served_family
from llmos.evaluation.generation_eval import LONGER, chosen_of, said_of_answers
from llmos.evaluation.judge import Judge
from llmos.programs.channel import Channel, Stopped
from llmos.programs.resident import with_resident
from llmos.programs.served_answers import ServedJudge, answer, loaded_engine
from llmos.tasks import Settings

LEAST_TOKENS = 16  # of a written answer
BYTES_A_TOKEN = 3  # of text: an engine that is asked by calls does not say how many tokens a true answer has


def main(channel: Channel, assignment: Job) -> None:
    """Evaluate the model in the arguments on the rows of their data."""
    model = assignment.models["model"]
    manifest = model.manifest
    task = str(assignment.args.get("task") or manifest.task)
    _refuse_others(manifest, task)
    options = {**_form(task), **manifest.options, **_report(assignment.args.get("options"))}
    channel.report(Progress("read", unit="rows"))
    key = bytes.fromhex(assignment.row_key)
    read = test_rows(data_of(assignment.args.get("data")), task, options, assignment.datasets, key)
    for note in read.notes:
        print(note, flush=True)
    inside, others = _part_by_scope(read.rows, Settings(manifest.labels, options), task)
    rows, outside = [read.rows[i] for i in inside], [read.rows[i] for i in others]
    rows_of(task).refuse_unknown(rows, manifest.labels)
    work = _Work(channel, assignment, task, options, rows, outside)
    try:
        answers = work.by_engine(engine) if (engine := assignment.args.get("engine")) else work.by_forward_pass()
    except Stopped:
        print(f"Stopped before all of {len(rows):,} rows were answered; nothing is kept", flush=True)
        return
    judge, predicted = answers.judge, answers.judge.apply_calibration(answers.raw)
    judged = judge.judge(rows, predicted)
    leaks = _seen_in_training(assignment, manifest, rows)
    ids = [read.ids[i] for i in inside] if read.ids else []
    extras = [read.extras[i] for i in inside] if read.extras else []
    evidence = Evidence(
        title=f"{manifest.ref} on {Path(read.path).name}",
        task=task,
        headline=next(iter(judged.metrics)),
        judged=judged,
        rows={"test": len(rows), **({"out of scope": len(outside)} if outside else {})},
        calibration=measure(task, rows, answers.raw, judge.settings, outside, answers.outside)
        if answers.has_scores
        else {},
        facts={"model": manifest.ref, "data": read.path, **_skips(read), **answers.facts},
        leaks=tuple(map(str, leaks)),
        findings=judge.examine(rows, predicted, ids, extras).with_checks(assignment.checks.values()),
    )
    report = _keep_evidence(evidence, Path(assignment.scratch), assignment.args.get("reports"))
    skipped = f"; {read.skip_count:,} were left out" if read.skip_count else ""
    seen = "".join(f". {one.count:,} of them are among its training rows: it looks better than it is" for one in leaks)
    message = f"{manifest.ref} on {len(rows):,} rows of {Path(read.path).name}{skipped}{seen}. Report: {report}"
    channel.report(Progress(DONE, len(rows), len(rows), "rows", dict(judged.metrics), message, judged.bounds))


@dataclass(frozen=True, slots=True)
class _Answers:
    """Predictions of the rows and of those out of scope, without calibration, and what judges them.

    `has_scores`: each choice among labels has its probabilities.
    """

    judge: Judge
    raw: list[Any]  # Any: predictions of the task's family
    outside: list[Any]
    facts: dict[str, str]
    has_scores: bool = True


@dataclass(frozen=True, slots=True)
class _Work:
    """The rows to be answered, and by which model."""

    channel: Channel
    job: Job
    task: str
    options: dict[str, Json]
    rows: list[Row]
    outside: list[Row]

    def by_forward_pass(self) -> _Answers:
        """By the model in float or int8, as training measures it."""
        job, model, count = self.job, self.job.models["model"], len(self.rows)
        torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
        if is_on_base(model.manifest.method):
            model = with_resident(self.channel, job, model)
        evaluator = load_evaluator(model, self.task, job.dtype, job.device, self.options)
        answered = len(chosen_of(count, evaluator.settings))
        raw = evaluator.predict_raw(self.rows, self._report("evaluate", count), self._report("answer", answered))
        others = (
            evaluator.predict_raw(self.outside, self._report("evaluate", len(self.outside))) if self.outside else []
        )
        facts = {"device": f"{job.device}, {job.dtype}"} | said_of_answers(self.task, count, evaluator.settings)
        return _Answers(evaluator, raw, others, facts)

    def by_engine(self, name: str) -> _Answers:
        """By calls to the engine that serves the model; of texts as many as the options say."""
        manifest, family = self.job.models["model"].manifest, served_family(self.task)
        if family is None:
            raise WrongTask(
                f"What the engine {name} answers to {self.task} cannot be measured. Measure a model for pytorch",
                model=manifest.ref,
                task=self.task,
                has=list(SERVED),
            )
        settings = Settings(manifest.labels, self.options)
        chosen = chosen_of(len(self.rows), settings) if is_generative(self.task) else list(range(len(self.rows)))
        params = self._params(chosen)
        with loaded_engine(self.job, name) as engine:
            report = self._report("evaluate", len(chosen))
            asked = [self.rows[i].input for i in chosen]
            outputs = answer(engine, manifest.ref, self.task, asked, params, report)
            strange = [row.input for row in self.outside]
            others = answer(engine, manifest.ref, self.task, strange, params, self._report("evaluate", len(strange)))
        whole: list[Json] = [None] * len(self.rows)
        for i, output in zip(chosen, outputs, strict=True):
            whole[i] = output
        raw = family.from_outputs(self.rows, whole, settings)
        facts = {"engine": f"{name}, by the calls that it serves", "device": self.job.device}
        facts |= said_of_answers(self.task, len(self.rows), settings)
        is_scored = spec_of(self.task).family is Family.LABELS
        judge = ServedJudge(self.task, settings)
        return _Answers(judge, raw, family.from_outputs(self.outside, others, settings), facts, is_scored)

    def _params(self, chosen: Sequence[int]) -> dict[str, Json]:
        """Of written answers: greedy, and at most about twice as long as the longest true one."""
        if not is_generative(self.task):
            return {}
        longest = max((len(self.rows[i].answer.encode()) for i in chosen), default=1)  # type: ignore[attr-defined]
        return {"temperature": 0.0, "max_tokens": max(LEAST_TOKENS, LONGER * -(-longest // BYTES_A_TOKEN))}

    def _report(self, phase: str, count: int) -> Callable[[int], None]:
        return report_rows(self.channel, phase, count)


def _seen_in_training(job: Job, manifest: Manifest, rows: Sequence[Row]) -> tuple[Leak, ...]:
    """The rows that the model has learned from; nothing if there are none, or its dataset is no longer here."""
    folder = job.datasets.get(str(manifest.lineage.get("dataset", "")))
    known = training_keys(folder, manifest.task, manifest.options) if folder else frozenset()
    seen = [row for row in rows if key_of(row) in known]
    if not seen:
        return ()
    examples = tuple(dict.fromkeys(key_of(row)[:120] for row in seen))[:EXAMPLES]
    return (Leak(f"the training rows of {manifest.ref}", "test", len(seen), len(seen) / len(rows), examples),)


def _skips(read: Rows[Any]) -> dict[str, str]:
    """How many bad rows were left out, and why."""
    counts = ", ".join(f"{reason.replace('_', ' ')}: {count:,}" for reason, count in read.skip_counts.items())
    return {"left out": f"{read.skip_count:,} rows ({counts})"} if counts else {}


def _part_by_scope(rows: Sequence[Row], settings: Settings, task: str) -> tuple[Sequence[int], Sequence[int]]:
    """The places of rows that the model can be right about, and of those of a label out of scope that it has not
    learned."""
    if spec_of(task).family is not Family.LABELS or settings.options.get("multi_label"):
        return range(len(rows)), ()
    strange = {kind for row in rows for kind in row.kinds - set(settings.labels) if is_out_of_scope(kind, settings)}
    is_strange = [bool(row.kinds & strange) for row in rows]
    return [i for i, one in enumerate(is_strange) if not one], [i for i, one in enumerate(is_strange) if one]


def report_rows(channel: Channel, phase: str, count: int) -> Callable[[int], None]:
    """A callback that reports finished rows of this phase; it raises Stopped once the process is asked to stop."""

    def on_done(done: int) -> None:
        if channel.stop_asked:
            raise Stopped
        channel.report(Progress(phase, done, count, "rows"))

    return on_done


def _form(task: str) -> dict[str, Json]:
    """Preference rows are read as such, whatever the model has learned from."""
    return {PREFERENCES.name: DETECT} if takes_preferences(task) else {}


def _refuse_others(manifest: Manifest, task: str) -> None:
    """Raise unless the task is the model's own; a generative base may be evaluated at any generative task."""
    is_any = manifest.kind is Kind.BASE and is_generative(manifest.task)
    if task not in trainable_tasks() or (task != manifest.task and not (is_any and is_generative(task))):
        able = ", ".join(generative_tasks() if is_any else trainable_tasks())
        said = f"{manifest.ref} is a model for {manifest.task}, not for {task}"
        raise WrongTask(
            f"{said}; what can be measured on labelled rows: {able}",
            model=manifest.ref,
            task=task,
            has=manifest.task,
        )


def _keep_evidence(evidence: Evidence, scratch: Path, reports: Json) -> Path:
    """Move the evidence, atomically, to where it outlives the process; returns its page."""
    folder = Path(str(reports or scratch / "reports"))
    aside = scratch / "evaluation"
    evidence.write(aside)
    shutil.rmtree(folder, ignore_errors=True)  # left by an attempt that was killed after this point
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside.rename(folder)
    return folder / PAGE


def data_of(told: Json) -> Data:
    """The data source in the arguments."""
    if isinstance(told, str):
        return Data(told)
    if not isinstance(told, dict):
        raise BadInput(
            'evaluate needs data: an absolute path, or {"train": path, "text": column, "label": column}', key="data"
        )
    found = from_plain(told, Data)
    return replace(found, train=found.test or found.train)


def _report(options: Json) -> dict[str, Json]:
    options = options or {}
    if not isinstance(options, dict) or not options.keys() <= recipe_options():
        raise BadInput(
            f"options is {options!r}; it may have: {', '.join(sorted(recipe_options()))}",
            key="options",
            expected=sorted(recipe_options()),
        )
    return options
