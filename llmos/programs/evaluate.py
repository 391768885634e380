"""evaluate: any model of the store on any labelled rows; the last report has the metrics, two files are the evidence.

Arguments: `model`, `data`, `options`, the `task` of a generative base, and the machine's own `reports`: the folder
where the evidence is kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from llmos.abi.error import BadInput, WrongTask
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import Data
from llmos.abi.task import Family, generative_tasks, is_generative, recipe_options, spec_of, trainable_tasks
from llmos.abi.wire import from_plain
from llmos.data.dataset import test_rows
from llmos.data.families import rows_of
from llmos.data.row import Row
from llmos.evaluation.calibration_evidence import is_out_of_scope, measure
from llmos.evaluation.evaluator import load_evaluator
from llmos.evaluation.evidence import PAGE, Evidence
from llmos.evaluation.generation_eval import chosen_of, said_of_answers
from llmos.programs.channel import Channel, Stopped
from llmos.programs.resident import with_resident
from llmos.tasks import Settings


def main(channel: Channel, assignment: Job) -> None:
    """Evaluate the model in the arguments on the rows of their data."""
    model = assignment.models["model"]
    manifest = model.manifest
    task = str(assignment.args.get("task") or manifest.task)
    _refuse_others(manifest, task)
    options = {**manifest.options, **_report(assignment.args.get("options"))}
    channel.report(Progress("read", unit="rows"))
    key = bytes.fromhex(assignment.row_key)
    read = test_rows(data_of(assignment.args.get("data")), task, options, assignment.datasets, key)
    for note in read.notes:
        print(note, flush=True)
    inside, others = _part_by_scope(read.rows, Settings(manifest.labels, options), task)
    rows, outside = [read.rows[i] for i in inside], [read.rows[i] for i in others]
    rows_of(task).refuse_unknown(rows, manifest.labels)
    torch.set_num_threads(assignment.threads or len(os.sched_getaffinity(0)))
    if manifest.method == "lora":
        model = with_resident(channel, assignment, model)
    evaluator = load_evaluator(model, task, assignment.dtype, assignment.device, options)
    count = len(rows)
    try:
        raw = evaluator.predict_raw(
            rows,
            report_rows(channel, "evaluate", count),
            report_rows(channel, "answer", len(chosen_of(count, evaluator.settings))),
        )
        raw_outside = evaluator.predict_raw(outside, report_rows(channel, "evaluate", len(outside))) if outside else []
    except Stopped:
        print(f"Stopped before all of {count:,} rows were answered; nothing is kept", flush=True)
        return
    predicted = evaluator.apply_calibration(raw)
    judged = evaluator.judge(rows, predicted)
    ids, extras = [[column[i] for i in inside] if column else [] for column in (read.ids, read.extras)]
    evidence = Evidence(
        title=f"{manifest.ref} on {Path(read.path).name}",
        task=task,
        headline=spec_of(task).primary_metric,
        judged=judged,
        rows={"test": count, **({"out of scope": len(outside)} if outside else {})},
        calibration=measure(task, rows, raw, evaluator.settings, outside, raw_outside),
        facts={"model": manifest.ref, "data": read.path, "device": f"{assignment.device}, {assignment.dtype}"}
        | said_of_answers(task, count, evaluator.settings),
        findings=evaluator.examine(rows, predicted, ids, extras),
    )
    report = _keep_evidence(evidence, Path(assignment.scratch), assignment.args.get("reports"))
    message = f"{manifest.ref} on {count:,} rows of {Path(read.path).name}. Report: {report}"
    channel.report(Progress(DONE, count, count, "rows", dict(judged.metrics), message, judged.bounds))


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
