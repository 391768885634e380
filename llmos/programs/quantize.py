"""quantize: the same version again, served in int8, with what that costs as its evidence, or refused for it.

Arguments: `model`, `max_drop` (0.01: so much of the headline metric may go; of a base, of the measure in
`evaluation/fidelity.py`), and `data` (rows to measure a fine-tune on, where the store has not its own test rows).
An int8 version of the base comes as `models["int8"]` where there is one; else it is made. A model is served in what its
base is served in, so a model's int8 version stands on its base's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from llmos.abi.error import BadInput, WrongTask
from llmos.abi.form import FLOAT, INT8, form_dtype
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.method import is_on_base
from llmos.abi.model import Kind, Manifest, Offer, OfferKind, Part, Verdict
from llmos.abi.objective import primary_metric_of
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import Data
from llmos.abi.task import trainable_tasks
from llmos.abi.wire import to_json, to_plain
from llmos.data.dataset import test_rows
from llmos.data.row import Row
from llmos.evaluation import fidelity
from llmos.evaluation.calibration_evidence import measure
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.evaluator import load_evaluator
from llmos.evaluation.evidence import DATA, Evidence
from llmos.evaluation.judge import RowFindings
from llmos.evaluation.statistics.comparison import Comparison, compare
from llmos.evaluation.statistics.samples import Sample
from llmos.nn.cpu import int8_gain as gains
from llmos.nn.cpu.int8_gain import Gain, Measure
from llmos.nn.load import load
from llmos.programs.channel import Channel, Stopped
from llmos.programs.evaluate import data_of, report_rows
from llmos.programs.resident import offer_resident, with_resident

BASE_OFFER, MODEL_OFFER = 11, 12
WEIGH = "weigh"
MAX_DROP = 0.01
NO_LIMIT = float("inf")


@dataclass(frozen=True, slots=True)
class MeasuredRows:
    """The rows that a model is measured on, with their ids and their other columns, in parallel or empty."""

    rows: Sequence[Row]
    ids: Sequence[str] = ()
    extras: Sequence[Mapping[str, Json]] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of int8 in one metric, against the dtype that it replaces; `drop` is the loss."""

    measure: str
    against: str
    before: float
    after: float
    drop: float
    count: int  # rows, or texts, of the measurement
    comparison: Comparison | None = None  # int8 with the other dtype on the same rows; None for a base

    def sentence(self, limit: float) -> str:
        allowed = "" if limit == NO_LIMIT else f", and {limit:.4g} may be"
        both = f"{self.measure} {self.after:.4f} in int8, {self.before:.4f} in {self.against}"
        return f"{both}: {max(self.drop, 0.0):.4f} is lost{self._bounds}{allowed}"

    def plain(self, limit: float, gain: Gain) -> dict[str, Json]:
        """The figures as evidence stores them, with the gain on this machine; `max_drop` only if there is a limit."""
        both: dict[str, Json] = {
            self.against: self.before,
            INT8: self.after,
            "drop": self.drop,
            "measured_on": self.count,
        }
        if self.comparison is not None:
            both |= {"low": self.comparison.low, "high": self.comparison.high, "method": self.comparison.method}
        told = {"dtype": INT8, "measure": self.measure, "against": self.against, **both, "here": gain.plain}
        return told if limit == NO_LIMIT else {**told, "max_drop": limit}

    @property
    def _bounds(self) -> str:
        """The bounds of the loss, each at 95 %."""
        found = self.comparison
        return "" if found is None else f" (from {-found.high:.4f} to {-found.low:.4f})"


def main(channel: Channel, assignment: Job, *, measure: Measure | None = None) -> None:
    """Make the int8 version of the model in the arguments, or report its cost; the gain is reported first."""
    model = assignment.models["model"]
    limit = max_drop_of(assignment.args)
    if model.manifest.dtype == INT8:
        channel.report(Progress(DONE, 1, 1, message=f"{model.manifest.ref} is served in int8 already"))
        return
    torch.set_num_threads(assignment.threads or len(os.sched_getaffinity(0)))
    promotes = _is_promoted(model, assignment)
    try:
        if model.manifest.kind is Kind.BASE:
            gain = report_gain(channel, assignment, model, measure)
            ref, said = quantize_base(channel, assignment, model, limit, promotes=promotes, gain=gain)
        else:
            rows = _rows_of(assignment, model.manifest)
            assert model.base is not None, f"{model.manifest.ref} names no base"
            gain = report_gain(channel, assignment, model.base, measure)
            ref, said = quantize_model(channel, assignment, model, rows, limit, promotes=promotes, gain=gain)
    except Stopped:
        print("Stopped before it was measured; nothing is kept", flush=True)
        return
    channel.report(Progress(DONE, 1, 1, figures=gain.figures, message=f"{ref}: {said}. {gain.sentence}"))


def report_gain(channel: Channel, assignment: Job, base: ModelPath, measure: Measure | None = None) -> Gain:
    """Measure and report what int8 saves for the base on this machine, before anything is made."""
    channel.report(Progress(WEIGH, 0, 1, message="measuring what int8 saves here"))
    is_packed = not any(Path(base.folder).glob("*.safetensors"))
    if is_packed:  # its config comes with its form
        base = with_resident(channel, assignment, base)
    plan = gains.plan(Path(base.resident if is_packed and base.resident else base.folder), is_whole=not is_packed)
    found = gains.gain(plan, assignment.dtype, measure)
    print(found.sentence, flush=True)
    channel.report(Progress(WEIGH, 1, 1, figures=found.figures, message=found.sentence))
    return found


def max_drop_of(args: dict[str, Json]) -> float:
    told = args.get("max_drop")
    if told is None:
        return MAX_DROP
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told <= 1:
        raise BadInput(
            f"max_drop is {told!r}; it must be a number from 0 to 1, such as 0.01", key="max_drop", value=told
        )
    return float(told)


def quantize_base(
    channel: Channel,
    assignment: Job,
    base: ModelPath,
    limit: float,
    *,
    promotes: bool,
    gain: Gain | None = None,
) -> tuple[str, str]:
    """Make the base's int8 version and return it with a summary; BadInput if it loses more than the limit."""
    there, dtype = assignment.models.get(INT8), form_dtype(INT8, assignment.dtype)
    if there is not None:
        with_resident(channel, replace(assignment, dtype=dtype), there)
        return there.manifest.ref, "it was here already"
    manifest, gain = base.manifest, gain or report_gain(channel, assignment, base)
    form = offer_form(channel, assignment, base)
    channel.report(Progress("compare", message=f"comparing int8 with {FLOAT}"))
    pooling = str(manifest.options.get("pooling", "mean"))
    is_exact = any(Path(base.folder).glob("*.safetensors"))  # a resident form may have been rounded
    exact = replace(base, resident=None) if is_exact else with_resident(channel, assignment, base)
    plain = load(exact, dtype=FLOAT, device="cpu0")
    other = load(replace(base, resident=form), dtype=dtype, device="cpu0")
    cost = fidelity.compare_bases(plain, other, pooling)
    lost = Cost(cost.measure, FLOAT, cost.plain, cost.other, cost.lost, len(fidelity.TEXTS))
    said = lost.sentence(limit)
    if cost.lost > limit:
        raise refusal(manifest, said, cost.lost)
    evidence = {
        "metrics": cost.figures,
        "quantized": lost.plain(limit, gain),
    }
    folder = _empty_folder(assignment, "int8-base")
    (folder / DATA).write_bytes(to_json({**evidence, "texts": fidelity.TEXTS}))
    draft = _draft(manifest, assignment, BASE_OFFER) | {"evidence": evidence, "dtype": INT8}
    verdict = Verdict(promotes, said, manifest.ref)
    files = ((DATA, Part.EVIDENCE),)
    offer = Offer(BASE_OFFER, OfferKind.BASE, manifest.name, str(folder), files, draft, verdict, manifest.ref)
    return channel.offer(offer).ref, said


def offer_form(channel: Channel, assignment: Job, base: ModelPath) -> str:
    """The folder of the base's int8 form, made now."""
    out = Path(assignment.scratch) / "resident-int8"
    dtype = form_dtype(INT8, assignment.dtype)
    return offer_resident(channel, base.manifest.ref, Path(base.folder), dtype, out)


def quantize_model(
    channel: Channel,
    assignment: Job,
    model: ModelPath,
    rows: MeasuredRows,
    limit: float,
    *,
    promotes: bool,
    gain: Gain | None = None,
) -> tuple[str, str]:
    """Make the model's int8 version and return it with a summary; BadInput if it loses more than the limit on these
    rows."""
    manifest, base = model.manifest, model.base
    assert base is not None, f"{manifest.ref} names no base"
    gain = gain or report_gain(channel, assignment, base)
    name = primary_metric_of(manifest.task, manifest.options)
    if is_on_base(manifest.method):
        model = with_resident(channel, assignment, model)
    plain, in_float, _, _ = _judge_cost(channel, assignment, model, assignment.dtype, rows.rows)
    there = assignment.models.get(INT8)
    form = there.resident if there is not None else None
    if is_on_base(manifest.method):
        form = form or offer_form(channel, assignment, base)
    in_int8 = replace(model, base=replace(base, resident=form))
    dtype = form_dtype(INT8, assignment.dtype)
    other, rounded, measured, findings = _judge_cost(channel, assignment, in_int8, dtype, rows.rows, rows)
    before, after = plain.metrics[name], other.metrics[name]
    comparison = compare(rounded, in_float, name)
    lost = Cost(name, assignment.dtype, before, after, before - after, len(rows.rows), comparison)
    said = lost.sentence(limit)
    if lost.drop > limit:
        raise refusal(manifest, said, lost.drop)
    on, _ = quantize_base(channel, assignment, base, NO_LIMIT, promotes=False, gain=gain)
    facts = {"model": manifest.ref, "base": on, "device": f"{assignment.device}, int8", "cost of int8": said}
    title = f"{manifest.ref} in int8"
    counts = {"test": len(rows.rows)}
    evidence = Evidence(
        title,
        manifest.task,
        name,
        other,
        counts,
        verdict=said,
        is_promoted=promotes or None,
        facts=facts,
        calibration=measured,
        findings=findings,
    )
    folder = _empty_folder(assignment, "int8-model")
    files = evidence.write(folder)
    kept: dict[str, Json] = {key: manifest.evidence[key] for key in ("compared", "leaks") if key in manifest.evidence}
    whole: dict[str, Json] = {**evidence.plain(), **kept, "quantized": lost.plain(limit, gain)}
    draft = _draft(manifest, assignment, MODEL_OFFER) | {"base": on, "evidence": whole}
    verdict = Verdict(promotes, said, manifest.ref)
    offer = Offer(MODEL_OFFER, OfferKind.MODEL, manifest.name, str(folder), files, draft, verdict, manifest.ref)
    return channel.offer(offer).ref, said


def _rows_of(assignment: Job, manifest: Manifest) -> MeasuredRows:
    """The rows to measure on: the given ones, else the model's own test rows."""
    able = ", ".join(trainable_tasks())
    if manifest.task not in trainable_tasks():
        raise WrongTask(
            f"{manifest.ref} is a model for {manifest.task}; what int8 costs is measured for: {able}",
            model=manifest.ref,
            task=able,
            has=manifest.task,
        )
    own = str(manifest.lineage.get("dataset", ""))
    told = assignment.args.get("data")
    if told is None and own not in assignment.datasets:
        raise BadInput(
            f"The store has no test rows of {manifest.ref} to measure int8 on. Give some: "
            f"llmos quantize {manifest.ref} --data FILE",
            key="data",
            model=manifest.ref,
        )
    data = Data(own) if told is None else data_of(told)
    key = bytes.fromhex(assignment.row_key)
    read = test_rows(data, manifest.task, manifest.options, assignment.datasets, key)
    return MeasuredRows(read.rows, read.ids, read.extras)


def _judge_cost(
    channel: Channel,
    assignment: Job,
    model: ModelPath,
    dtype: str,
    rows: Sequence[Row],
    examined: MeasuredRows | None = None,
) -> tuple[EvaluationResult, Sample, dict[str, Json], RowFindings | None]:
    """What it scores in this dtype, row by row too, what its calibration is worth there, which is the model's, and, if
    they are to be `examined`, its errors and slices."""
    evaluator = load_evaluator(model, model.manifest.task, dtype, assignment.device)
    on_done = report_rows(channel, f"evaluate in {dtype}", len(rows))
    raw = evaluator.predict_raw(rows, on_done, on_done)
    predicted = evaluator.apply_calibration(raw)
    measured = measure(evaluator.task, rows, raw, evaluator.settings)
    findings = None
    if examined is not None:
        findings = evaluator.examine(rows, predicted, examined.ids, examined.extras)
    return evaluator.judge(rows, predicted), evaluator.sample(rows, predicted), measured, findings


def refusal(manifest: Manifest, said: str, drop: float) -> BadInput:
    """The error of a model that loses more than it may; detail: model, drop."""
    enough = -(-drop * 1000 // 1) / 1000
    on = f". Allow more, if that is good enough: llmos quantize {manifest.ref} --max-drop {enough:.3f}"
    return BadInput(f"{manifest.ref} stays in float: {said}{on if enough <= 1 else ''}", model=manifest.ref, drop=drop)


def _is_promoted(model: ModelPath, assignment: Job) -> bool:
    """Whether the name means this version. Then the new one is promoted in its place; else it stays a candidate too."""
    promoted = assignment.models.get("promoted")
    return promoted is not None and promoted.manifest.ref == model.manifest.ref


def _draft(manifest: Manifest, assignment: Job, offer: int) -> dict[str, Json]:
    """The draft of a copy of this version, with the fields that the caller changes."""
    plain = to_plain(manifest)
    kept = ("task", "method", "architecture", "labels", "options", "license", "source", "template")
    lineage = {**manifest.lineage, "quantized_from": manifest.ref, "process": assignment.pid, "offer": offer}
    return {key: plain[key] for key in kept} | {"lineage": lineage}


def _empty_folder(assignment: Job, name: str) -> Path:
    folder = Path(assignment.scratch) / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
