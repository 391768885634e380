"""augment-data: writes a dataset again with changed copies of its training rows behind them.

Arguments: `data`, `name`, `by`, `copies`, `share`, `strength`, `only_labels`, `balance`, `seed`; `base`, which proposes
words; `model`, which must label a copy as it is labelled; `writer`, which paraphrases; `translators` with the languages
`via` and `language`, which translate there and back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmos.abi.augmentation import Augmentation, names_in
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import Progress
from llmos.abi.wire import to_plain
from llmos.data.augmentation.added import REPEAT, AddedRows, Agrees, add_rows
from llmos.data.augmentation.augmenter import Material, Rewriter
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.datasets.dataset_writer import DatasetWriter, WrittenDataset
from llmos.data.datasets.row_ids import row_id
from llmos.data.datasets.row_table import EVERY
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.splits import key_of
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, finish, reader_of, rows_of, size_of
from llmos.programs.dataset_version import offer_child

NAMED = ("base", "model", "writer", "translators", "via", "language")  # what provenance says of the models
Stored = StoredRow[Any]  # Any: rows of the task's family


def main(channel: Channel, job: Job) -> None:
    """Read all rows, make the copies, write both."""
    ref = str(job.args["data"])
    reader, manifest, how = reader_of(job, ref), job.manifests[ref], _augmentation_in(job.args)
    try:
        added, written = _augment(channel, job, reader, how)
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    operation: dict[str, Json] = {
        "operation": "augment",
        **{key: value for key, value in to_plain(how).items() if value},
        **{key: job.args[key] for key in NAMED if job.args.get(key)},
        "counts": added.counts,
        "missing": added.missing,
    }
    said = _say(added)
    made = offer_child(channel, job, written, manifest, operation, notes=[said])
    finish(channel, made, written, said)


def _augmentation_in(args: Mapping[str, Json]) -> Augmentation:
    keys = ("copies", "share", "strength", "balance", "seed")
    given = {key: args[key] for key in keys if args.get(key) is not None}
    return Augmentation(by=names_in(args.get("by")), only_labels=tuple(args.get("only_labels") or ()), **given)


def _augment(channel: Channel, job: Job, reader: DatasetReader, how: Augmentation) -> tuple[AddedRows, WrittenDataset]:
    total = size_of(job, reader.ref)
    on_read = counter(channel, "read", total)
    train: list[Stored] = []
    held_out: set[str] = set()
    for number, (split, stored) in enumerate(rows_of(reader)):
        if split == "train":
            train.append(stored)
        else:
            held_out.add(key_of(stored.row))
        if number % EVERY == EVERY - 1:
            on_read(EVERY)

    def report(made: int, wanted: int) -> None:
        if channel.stop_asked:
            raise Stopped
        channel.report(Progress("augment", made, wanted, "rows"))

    rows = [stored.row for stored in train]
    with _rewriters(channel, job) as rewriters:
        material = _material(job, reader.task, rows, how, rewriters)
        added = add_rows(material, how, held_out, _agreement(job, reader.task, how), report)
    on_write = counter(channel, "write", total + len(added.rows))
    ids = {stored.id for stored in train}
    with DatasetWriter(Path(job.scratch) / "dataset", reader.task, options=reader.options) as writer:
        for split in reader.splits:
            for number, stored in enumerate(_with_copies(reader.rows(split), split, added, train, how, ids, job)):
                writer.add(split, stored)
                if number % EVERY == EVERY - 1:
                    on_write(EVERY)
        return added, writer.finish()


def _with_copies(
    rows: Iterator[Stored],
    split: str,
    added: AddedRows,
    train: Sequence[Stored],
    how: Augmentation,
    ids: set[str],
    job: Job,
) -> Iterator[Stored]:
    """The rows of a split; of the training rows, then their copies."""
    yield from rows
    if split != "train":
        return
    key = bytes.fromhex(job.row_key)
    for one in added.rows:
        parent = train[one.parent]
        id, occurrence = row_id(key, one.row), 0
        while id in ids:
            occurrence += 1
            id = row_id(key, one.row, occurrence)
        ids.add(id)
        yield StoredRow(id, one.row, parent.extra, one.origin([parent.id], how.seed))


def _material(
    job: Job, task: str, rows: Sequence[Any], how: Augmentation, rewriters: Mapping[str, Rewriter]
) -> Material:  # Any: as Stored
    base = job.models.get("base")
    if base is None:
        return Material(task, rows, rewriters=rewriters)
    from llmos.training.substitutes import find_material  # imports torch, which most augmenters do not need

    return replace(find_material(task, rows, how, base, job.device, job.threads), rewriters=rewriters)


def _rewriters(channel: Channel, job: Job) -> AbstractContextManager[Mapping[str, Rewriter]]:
    if not job.args.get("engines"):
        return nullcontext({})
    from llmos.programs.rewriters import rewriters_in  # imports engines

    return rewriters_in(channel, job)


def _agreement(job: Job, task: str, how: Augmentation) -> dict[str, Agrees]:
    """By augmenter, whether the model that is named labels a copy as its row is labelled."""
    model = job.models.get("model")
    if model is None:
        return {}
    from llmos.evaluation.agreement import load_agreement  # imports torch

    asked = load_agreement(model, task, job.dtype, job.device)
    return {name: asked for name in how.by if name != REPEAT}


def _say(added: AddedRows) -> str:
    counts = ", ".join(f"{count:,} by {name}" for name, count in added.counts.items()) or "none"
    missing = "; ".join(f"{count:,} {reason}" for reason, count in added.missing.items())
    return f"Training rows added: {counts}" + (f". Copies that were not made: {missing}" if missing else "")
