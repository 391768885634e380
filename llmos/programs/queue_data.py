"""queue-data: orders a dataset's unlabelled rows by what their labels would be worth, with a suggestion for each.

Arguments: `data`, `base`, `model` (whose newest version is asked as well), `n`, `strategy`, `seed`, `without` (ids that
are being answered already), `second` (a person, who is asked about rows that others have answered), `disagreements` (a
model, on whose rollouts' disagreements labels are asked too). The daemon's own are `disagreements_file`, `reports`,
where the process's result is kept, and `vectors`, where those of the rows are.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from llmos.abi.disagreement import EXTRA
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.labelling import labels_to_learn
from llmos.abi.method import is_on_base
from llmos.abi.model import Manifest
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import UNLABELLED
from llmos.abi.task import Family, spec_of
from llmos.data.dataset import training_keys
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.labelling.acquisition import choose_rows, shortlist, some_sentences
from llmos.data.labelling.disagreements import disagreement_rows, new_rows
from llmos.data.labelling.second_opinion import second_opinions
from llmos.data.splits import key_of
from llmos.evaluation.evaluator import Evaluator, load_evaluator
from llmos.evaluation.kept_predictions import KeptPredictions
from llmos.evaluation.label_candidate import ask_candidate, measure_candidate
from llmos.evaluation.label_worth import Beliefs, Estimate, believe
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.nn.kept_vectors import KeptVectors
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, keep_result, reader_of, rows_of, size_of
from llmos.programs.resident import with_resident
from llmos.tasks.tag import OUTSIDE

SEED = 7
MOST_ASKED = 1_000  # rows that the candidate is asked about, unless more of them are wanted
MOST_SENTENCES = 2_000  # of words to be tagged, whose vectors are computed for each queue
DIGEST = 16  # digits of a version's content, in the name of its file
VERSION = re.compile(r"\d+-[0-9a-f]{16}\.\w+\.predictions\.npz")
Stored = StoredRow[Any]  # Any: a row of the task's family


def main(channel: Channel, job: Job) -> None:
    """Ask the base for vectors, fit a head on what is labelled, and order the rest."""
    if job.args.get("second"):
        _ask_again(channel, job)
        return
    args, ref = job.args, str(job.args["data"])
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    without = frozenset(args.get("without") or ())
    strategy, count, seed = str(args["strategy"]), int(args["n"]), int(args.get("seed") or SEED)
    splits: dict[str, list[Stored]] = {name: [] for name in reader.splits}
    disputed = disagreement_rows(args, manifest.task, is_multi=bool(manifest.options.get("multi_label")))
    known = set(without)
    try:
        on_rows = counter(channel, "read", size_of(job, ref))
        for split, stored in rows_of(reader):
            on_rows(1)
            known.add(stored.id)
            if split != UNLABELLED or stored.id not in without:
                splits[split].append(stored)
        every = [*splits.pop(UNLABELLED, []), *new_rows(disputed, known)]
        unlabelled, pool = len(every), some_sentences(manifest.task, every, max(MOST_SENTENCES, 2 * count))
        torch.set_num_threads(1)
        encoder = _encoder(channel, job)
        found = believe(encoder, manifest.task, splits, pool, _counter(channel, "embed"))
        by = f"a head on {job.models['base'].manifest.ref}" if found.suggestions else ""
        candidate = None
        with ExitStack() as stack:
            if "candidate" in job.models and pool:
                candidate = stack.enter_context(_Candidate(channel, job, manifest.task, splits))
            if candidate is not None and candidate.score.is_believed(found):
                some = shortlist(strategy, found.probabilities, len(pool), max(MOST_ASKED, 2 * count), seed).tolist()
                pool, by = [pool[at] for at in some], candidate.ref
                found = candidate.ask(pool, found.of_rows(some))
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    places = choose_rows(strategy, found.vectors, found.probabilities, count, seed)
    rows = [_row(pool[at], found, int(at)) for at in places]
    kept: dict[str, Json] = {
        "dataset": ref,
        "task": manifest.task,
        "is_multi": bool(manifest.options.get("multi_label")),
        "strategy": strategy,
        "labels": _kinds(manifest.task, found.labels or manifest.labels),
        "labelled": labels_to_learn(manifest.splits),
        "unlabelled": unlabelled,
        "suggested_by": by,
        "estimate": _estimate_json(found.estimate),
        "candidate": None if candidate is None else candidate.plain(),
        "rows": rows,
    }
    said = f"{len(rows):,} of {unlabelled:,} unlabelled rows by {strategy}"
    if found.estimate is not None:
        said += f". {found.estimate.sentence}"
    _finish(channel, job, kept, said)


def _finish(channel: Channel, job: Job, found: dict[str, Json], said: str) -> None:
    keep_result(job, found)
    print(said, flush=True)
    count = len(found["rows"])
    channel.report(Progress(DONE, count, count, "rows", {}, f"{found['dataset']}: {said}"))


def _ask_again(channel: Channel, job: Job) -> None:
    """Choose rows that others have answered and this person has not; no model is asked, so that it is their own."""
    args, ref = job.args, str(job.args["data"])
    reader, manifest, by = reader_of(job, ref), job.manifests[ref], str(job.args["second"])
    on_rows = counter(channel, "read", size_of(job, ref))

    def rows_with_labels() -> Iterator[Stored]:
        for split, stored in rows_of(reader):
            on_rows(1)
            if split != UNLABELLED:
                yield stored

    without = frozenset(args.get("without") or ())
    try:
        chosen, count = second_opinions(rows_with_labels(), by, without, int(args["n"]), int(args.get("seed") or SEED))
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    found: dict[str, Json] = {
        "dataset": ref,
        "task": manifest.task,
        "is_multi": bool(manifest.options.get("multi_label")),
        "strategy": "random",
        "labels": _kinds(manifest.task, manifest.labels),
        "labelled": labels_to_learn(manifest.splits),
        "unlabelled": count,
        "suggested_by": "",
        "estimate": None,
        "candidate": None,
        "second": by,
        "rows": [_row(one, Beliefs(np.empty((0, 0), np.float32)), 0) for one in chosen],
    }
    _finish(channel, job, found, f"{len(chosen):,} of {count:,} rows that others have answered and {by} has not")


def _kinds(task: str, labels: Sequence[str]) -> list[str]:
    """What an answer may name: the labels, or the kinds of entities that the tags are of."""
    if spec_of(task).family is not Family.TAGS:
        return list(labels)
    return list(dict.fromkeys(tag.partition("-")[2] for tag in labels if tag != OUTSIDE))


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
    return KeptVectors(load, _kept_in(job) / f"{base}.{job.dtype}.npz", bytes.fromhex(job.row_key))


def _kept_in(job: Job) -> Path:
    return Path(str(job.args.get("vectors") or job.scratch))


def _file_of(manifest: Manifest, dtype: str) -> str:
    """The name of the file of a version's predictions; of another one that gets its number later it is another."""
    content = hashlib.sha256("\n".join(sorted(file.digest for file in manifest.files)).encode()).hexdigest()
    return f"{manifest.name}-{manifest.version}-{content[:DIGEST]}.{dtype}.predictions.npz"


class _Candidate:
    """The newest version of the model that is trained while people label.

    It is measured on the test rows, else on labelled rows that it has neither learned from nor been chosen by. What it
    has said is kept; of its earlier versions nothing is.
    """

    def __init__(self, channel: Channel, job: Job, task: str, splits: Mapping[str, Sequence[Stored]]) -> None:
        self.channel, self.job, self.task = channel, job, task
        model = job.models["candidate"]
        self.ref = model.manifest.ref
        self._file = _kept_in(job) / _file_of(model.manifest, job.dtype)
        self._kept = KeptPredictions(self._load, task, model.manifest.labels, self._file, bytes.fromhex(job.row_key))
        test = list(splits.get("test", ()))
        held = test or _not_learned(job, model, task, splits)
        self.score = measure_candidate(self._kept, task, held, _counter(channel, "measure"), is_test=bool(test))

    def __enter__(self) -> _Candidate:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._kept.__exit__(kind, error, at)
        name = self.job.models["candidate"].manifest.name
        for other in self._file.parent.glob(f"{name}-*.predictions.npz"):
            if other != self._file and VERSION.fullmatch(other.name.removeprefix(f"{name}-")):
                other.unlink(missing_ok=True)

    def ask(self, pool: Sequence[Stored], head: Beliefs) -> Beliefs:
        """What it says of the pool."""
        return ask_candidate(self._kept, self.task, pool, head, self.score, _counter(self.channel, "ask"))

    def plain(self) -> Json:
        return {"ref": self.ref, "estimate": _estimate_json(self.score.estimate)}

    def _load(self) -> Evaluator:
        model = self.job.models["candidate"]
        if is_on_base(model.manifest.method):
            model = with_resident(self.channel, self.job, model)
        torch.set_num_threads(self.job.threads or len(os.sched_getaffinity(0)))
        return load_evaluator(model, self.task, self.job.dtype, self.job.device)


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
    disputed = {EXTRA: stored.extra[EXTRA]} if EXTRA in stored.extra else {}
    return {"id": stored.id, "text": " | ".join(stored.row.texts), **words, "suggestions": suggestions, **disputed}
