"""check-data: reads a dataset, asks a base for vectors, runs all checks and keeps their report.

Arguments: `data`, `base`, `without` (checks to leave out); the daemon's own are `report`, the folder of the report, and
`reports`, where the process's result is kept.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import UNLABELLED
from llmos.data.checks.registry import run_checks
from llmos.data.checks.report import CheckReport, read_kept
from llmos.data.checks.subject import Stored, Subject
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, keep_result, reader_of, rows_of, size_of

if TYPE_CHECKING:
    from llmos.programs.label_predictions import BaseFacts

NO_BASE = "Labels and lengths were not checked: no base is here. Bring one in: llmos pull minilm"


def main(channel: Channel, job: Job) -> None:
    """Check the dataset in the arguments."""
    try:
        report = _check(channel, job)
    except Stopped:
        print("Stopped before all checks were done; nothing is kept", flush=True)
        return
    page = report.write(Path(str(job.args["report"])))
    keep_result(job, {**report.as_json(), "page": str(page)})
    total = sum(report.rows.values())
    for one in report.findings:
        print(f"{one.severity.name.lower()}: {one.kind}: {one.sentence}", flush=True)
    said = f"{len(report.findings)} findings, the worst: {report.worst}" if report.findings else "nothing was found"
    figures = {one.kind: float(len(one.row_ids)) for one in report.findings}
    channel.report(Progress(DONE, total, total, "rows", figures, f"{report.dataset}: {said}. Report: {page}"))


def _check(channel: Channel, job: Job) -> CheckReport:
    ref = str(job.args["data"])
    manifest = job.manifests[ref]
    without = tuple(job.args.get("without") or ())
    reader = reader_of(job, ref)
    splits: dict[str, list[Stored]] = {name: [] for name in reader.splits if name != UNLABELLED}
    on_rows = counter(channel, "read", size_of(job, ref))
    for split, stored in rows_of(reader):
        if split != UNLABELLED:
            splits[split].append(stored)
        on_rows(1)
    rows = [row for some in splits.values() for row in some]
    notes = []
    if UNLABELLED in reader.splits:
        notes.append(f"The {manifest.splits[UNLABELLED]:,} unlabelled rows were not checked")
    facts: BaseFacts | None = None
    if "base" in job.models and not {"labels", "length", "unknown-text"} <= set(without):
        facts = _ask(channel, job, manifest.task, rows, with_labels="labels" not in without)
        if facts.left_out:
            notes.append(f"The labels of the last {facts.left_out:,} rows were not checked: that is more than fits")
    elif "base" not in job.models:
        notes.append(NO_BASE)
    subject = Subject(
        manifest.task,
        splits,
        kept=_kept_ids(manifest.provenance, Path(str(job.args["report"]))),
        max_tokens=facts.max_tokens if facts else None,
        token_counts=facts.token_counts if facts else {},
        control_tokens=facts.control_tokens if facts else (),
        unknown_counts=facts.unknown_counts if facts else {},
        unknown_examples=facts.unknown_examples if facts else (),
        predictions=facts.predictions if facts else None,
    )

    def on_start(name: str) -> None:
        if channel.stop_asked:
            raise Stopped
        channel.report(Progress(name, 0, len(rows), "rows"))

    return CheckReport(
        dataset=ref,
        task=manifest.task,
        rows={name: len(some) for name, some in splits.items()},
        base=job.models["base"].manifest.ref if facts else "",
        without=without,
        notes=notes,
        labels=dict(Counter(kind for row in rows for kind in row.row.kinds)),
        findings=run_checks(subject, without, on_start),
    )


def _ask(channel: Channel, job: Job, task: str, rows: list[Stored], *, with_labels: bool) -> BaseFacts:
    import torch  # only where a base is asked: else this child starts without it

    from llmos.programs.label_predictions import ask_base
    from llmos.programs.resident import with_resident

    torch.set_num_threads(1)

    def on_done(phase: str, done: int, total: int) -> None:
        if channel.stop_asked:
            raise Stopped
        channel.report(Progress(phase, done, total, "rows"))

    base = with_resident(channel, job, job.models["base"])
    threads = job.threads or len(os.sched_getaffinity(0))
    return ask_base(base, task, rows, dtype=job.dtype, threads=threads, with_labels=with_labels, on_done=on_done)


def _kept_ids(provenance: dict[str, Json], folder: Path) -> dict[str, frozenset[str]]:
    """Ids of rows that were kept when this version was made of another."""
    found = provenance.get("kept") or {}
    here = read_kept(folder)
    return {kind: frozenset(found.get(kind, ())) | here.get(kind, frozenset()) for kind in {*found, *here}}
