"""queue-data: orders a dataset's unlabelled rows by what their labels would be worth, with a suggestion for each.

Arguments: `data`, `base`, `model` (whose newest version is asked as well), `n`, `strategy`, `seed`, `without` (ids that
are being answered already); the daemon's own are `reports`, where the process's result is kept, and `vectors`, where
those of the rows are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.method import is_on_base
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import UNLABELLED
from llmos.data.dataset import training_keys
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.labelling.acquisition import choose_rows
from llmos.data.splits import key_of
from llmos.evaluation.evaluator import load_evaluator
from llmos.evaluation.label_candidate import ask_candidate, measure_candidate
from llmos.evaluation.label_worth import Beliefs, Estimate, believe
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.nn.kept_vectors import KeptVectors
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, keep_result, reader_of, rows_of, size_of
from llmos.programs.resident import with_resident

SEED = 7
Stored = StoredRow[Any]  # Any: a row of the task's family


def main(channel: Channel, job: Job) -> None:
    """Ask the base for vectors, fit a head on what is labelled, and order the rest."""
    args, ref = job.args, str(job.args["data"])
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    without = frozenset(args.get("without") or ())
    splits: dict[str, list[Stored]] = {name: [] for name in reader.splits}
    try:
        on_rows = counter(channel, "read", size_of(job, ref))
        for split, stored in rows_of(reader):
            on_rows(1)
            if split != UNLABELLED or stored.id not in without:
                splits[split].append(stored)
        pool = splits.pop(UNLABELLED, [])
        torch.set_num_threads(1)
        encoder = _encoder(channel, job)
        found = believe(encoder, manifest.task, splits, pool, _counter(channel, "embed"))
        by = f"a head on {job.models['base'].manifest.ref}" if found.suggestions else ""
        candidate = _Candidate(channel, job, manifest.task, splits) if "candidate" in job.models and pool else None
        if candidate is not None and candidate.score.is_believed(found):
            found, by = candidate.ask(pool, found), candidate.ref
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    strategy, count = str(args["strategy"]), int(args["n"])
    places = choose_rows(strategy, found.vectors, found.probabilities, count, int(args.get("seed") or SEED))
    rows = [_row(pool[at], found, int(at)) for at in places]
    kept: dict[str, Json] = {
        "dataset": ref,
        "task": manifest.task,
        "is_multi": bool(manifest.options.get("multi_label")),
        "strategy": strategy,
        "labels": list(found.labels or manifest.labels),
        "labelled": sum(manifest.splits.values()) - manifest.splits.get(UNLABELLED, 0),
        "unlabelled": len(pool),
        "suggested_by": by,
        "estimate": _estimate_json(found.estimate),
        "candidate": None if candidate is None else candidate.plain(),
        "rows": rows,
    }
    keep_result(job, kept)
    said = f"{len(rows):,} of {len(pool):,} unlabelled rows by {strategy}"
    if found.estimate is not None:
        said += f". {found.estimate.sentence}"
    print(said, flush=True)
    channel.report(Progress(DONE, len(rows), len(rows), "rows", {}, f"{ref}: {said}"))


def _counter(channel: Channel, phase: str) -> Callable[[int, int], None]:
    def on_done(done: int, total: int) -> None:
        if channel.stop_asked:
            raise Stopped
        channel.report(Progress(phase, done, total, "rows"))

    return on_done


def _encoder(channel: Channel, job: Job) -> KeptVectors:
    """The base, whose vectors of this dataset's rows are kept beside those of other bases and dtypes."""

    def load() -> FrozenEncoder:
        base = with_resident(channel, job, job.models["base"])
        return FrozenEncoder(base, dtype=job.dtype, threads=job.threads or len(os.sched_getaffinity(0)))

    base = job.models["base"].manifest.ref.replace(":", "-")
    folder = Path(str(job.args.get("vectors") or job.scratch))
    return KeptVectors(load, folder / f"{base}.{job.dtype}.npz", bytes.fromhex(job.row_key))


class _Candidate:
    """The newest version of the model that is trained while people label.

    It is measured on the test rows, else on labelled rows that it has neither learned from nor been chosen by.
    """

    def __init__(self, channel: Channel, job: Job, task: str, splits: Mapping[str, Sequence[Stored]]) -> None:
        self.channel, self.task = channel, task
        model = job.models["candidate"]
        self.ref = model.manifest.ref
        if is_on_base(model.manifest.method):
            model = with_resident(channel, job, model)
        torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
        self.evaluator = load_evaluator(model, task, job.dtype, job.device)
        test = list(splits.get("test", ()))
        held = test or _not_learned(job, model, task, splits)
        self.score = measure_candidate(self.evaluator, task, held, _counter(channel, "measure"), is_test=bool(test))

    def ask(self, pool: Sequence[Stored], head: Beliefs) -> Beliefs:
        """What it says of the pool."""
        return ask_candidate(self.evaluator, self.task, pool, head, self.score, _counter(self.channel, "ask"))

    def plain(self) -> Json:
        return {"ref": self.ref, "estimate": _estimate_json(self.score.estimate)}


def _not_learned(job: Job, model: ModelPath, task: str, splits: Mapping[str, Sequence[Stored]]) -> list[Stored]:
    """The labelled rows that the model has not learned from; none where its dataset is gone."""
    ref = str(model.manifest.lineage.get("dataset", ""))
    if ref not in job.datasets:
        return []
    seen = training_keys(job.datasets[ref], task, model.manifest.options, ("train", "validation"))
    return [one for rows in splits.values() for one in rows if key_of(one.row) not in seen]


def _estimate_json(estimate: Estimate | None) -> Json:
    return None if estimate is None else asdict(estimate) | {"sentence": estimate.sentence}


def _row(stored: Stored, found: Beliefs, at: int) -> dict[str, Json]:
    words = {"tokens": stored.row.input["tokens"]} if "tokens" in stored.row.input else {}
    suggestions = [{"value": one.value, "confidence": one.confidence} for one in found.suggestions_of(at)]
    return {"id": stored.id, "text": " | ".join(stored.row.texts), **words, "suggestions": suggestions}
