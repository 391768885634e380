"""queue-data: orders a dataset's unlabelled rows by what their labels would be worth, with a suggestion for each.

Arguments: `data`, `base`, `n`, `strategy`, `seed`, `without` (ids that are being answered already); the daemon's own is
`reports`, where the process's result is kept.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import UNLABELLED
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.labelling.acquisition import choose_rows
from llmos.evaluation.label_worth import Beliefs, believe
from llmos.nn.frozen_vectors import FrozenEncoder
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
        base = with_resident(channel, job, job.models["base"])
        threads = job.threads or len(os.sched_getaffinity(0))
        encoder = FrozenEncoder(base, dtype=job.dtype, threads=threads)

        def on_done(done: int, total: int) -> None:
            if channel.stop_asked:
                raise Stopped
            channel.report(Progress("embed", done, total, "rows"))

        found = believe(encoder, manifest.task, splits, pool, on_done)
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    strategy, count = str(args["strategy"]), int(args["n"])
    places = choose_rows(strategy, found.vectors, found.probabilities, count, int(args.get("seed") or SEED))
    rows = [_row(pool[at], found, int(at)) for at in places]
    estimate = None if found.estimate is None else asdict(found.estimate) | {"sentence": found.estimate.sentence}
    kept: dict[str, Json] = {
        "dataset": ref,
        "task": manifest.task,
        "is_multi": bool(manifest.options.get("multi_label")),
        "strategy": strategy,
        "labels": list(found.labels or manifest.labels),
        "labelled": sum(manifest.splits.values()) - manifest.splits.get(UNLABELLED, 0),
        "unlabelled": len(pool),
        "estimate": estimate,
        "rows": rows,
    }
    keep_result(job, kept)
    said = f"{len(rows):,} of {len(pool):,} unlabelled rows by {strategy}"
    if found.estimate is not None:
        said += f". {found.estimate.sentence}"
    print(said, flush=True)
    channel.report(Progress(DONE, len(rows), len(rows), "rows", {}, f"{ref}: {said}"))


def _row(stored: Stored, found: Beliefs, at: int) -> dict[str, Json]:
    words = {"tokens": stored.row.input["tokens"]} if "tokens" in stored.row.input else {}
    suggestions = [{"value": one.value, "confidence": one.confidence} for one in found.suggestions_of(at)]
    return {"id": stored.id, "text": " | ".join(stored.row.texts), **words, "suggestions": suggestions}
