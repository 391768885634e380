"""label-data: rows that people have answered move to a labelled split, with every answer beside them.

Arguments: `data`, `answers` (a file of JSON lines), `name`, `split` (train by default; of rows that have one already,
it stays), `disagreements` (a model, by default `model`: answers may be to texts on which its versions disagreed in
rollouts; only where it is named, answers to none of the rows are left out), and the daemon's own `disagreements_file`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.labelling import read_answers
from llmos.abi.recipe import UNLABELLED
from llmos.data.byte_source import open_bytes
from llmos.data.datasets.dataset_writer import DatasetWriter
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.labelling.answers import ANSWERS, RowAnswers, agreement
from llmos.data.labelling.disagreements import FILE_ARGUMENT, disagreement_rows
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, finish, reader_of, rows_of, size_of
from llmos.programs.dataset_version import offer_child

SHOWN = 3
NAMED = "--disagreements NAME"  # what leaves out answers to none of the rows


def main(channel: Channel, job: Job) -> None:
    """Read the answers, then write every row, answered ones with their labels."""
    args, ref = job.args, str(job.args["data"])
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    answers, file = RowAnswers(), Path(str(args["answers"]))
    with open_bytes(file) as lines:
        answers.add(read_answers((line.decode("utf-8", "replace") for line in lines), file.name))
    target = str(args.get("split") or "train")
    missing, counts, seen = set(answers.by_row), Counter[str](), list[list[Json]]()
    on_rows = counter(channel, "write", size_of(job, ref))
    try:
        with DatasetWriter(Path(job.scratch) / "dataset", reader.task, options=reader.options) as writer:
            for split, stored in rows_of(reader):
                on_rows(1)
                if stored.id not in missing:
                    writer.add(split, stored)
                    continue
                missing.discard(stored.id)
                if (row := answers.apply(stored)) is not None:
                    counts["labelled"] += 1
                    writer.add(target if split == UNLABELLED else split, row)
                    seen.append(_values(row))
                elif (bare := answers.take_back(stored)) is not None:
                    counts["taken back"] += 1
                    writer.add(UNLABELLED, bare)
                else:
                    counts["passed over"] += 1
                    writer.add(split, answers.with_comments(stored))
            for disputed in disagreement_rows(args, reader.task, is_multi=bool(reader.options.get("multi_label"))):
                if disputed.id not in missing:
                    continue
                missing.discard(disputed.id)
                if (row := answers.apply(disputed)) is not None:
                    counts["labelled"] += 1
                    writer.add(target, row)
                    seen.append(_values(row))
                else:
                    counts["passed over"] += 1
            if missing and args.get("disagreements") and len(missing) < len(answers.by_row):
                counts["left out: their texts were erased, or gave way to newer ones"] += len(missing)
                missing = set()
            if missing:
                shown = ", ".join(sorted(missing)[:SHOWN])
                erased = f". Were their texts erased? Name the model: {NAMED}" if args.get(FILE_ARGUMENT) else ""
                raise BadInput(
                    f"{len(missing):,} answers are to rows that are not in {ref}, such as {shown}. Name the dataset "
                    f"that they were asked of{erased}",
                    dataset=ref,
                    ids=sorted(missing)[:SHOWN],
                )
            written = writer.finish()
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    agreed = agreement(seen)
    people = sorted({one.by for some in answers.by_row.values() for one in some.values() if one.by})
    operation: dict[str, Json] = {"operation": "label", **counts, "by": people}
    if agreed.rows:
        operation |= {"answered_twice": agreed.rows, "same": agreed.share, "alpha": agreed.alpha}
    made = offer_child(channel, job, written, manifest, operation)
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    if agreed.share is not None:
        alpha = "" if agreed.alpha is None else f" (Krippendorff's alpha {agreed.alpha:.2f})"
        said += f"; {agreed.rows:,} rows have several answers, which agree in {agreed.share:.0%}{alpha}"
    finish(channel, made, written, said)


def _values(row: StoredRow[Any]) -> list[Json]:
    """The values of a row's answers that are some."""
    return [one["value"] for one in row.extra[ANSWERS] if one["value"] is not None]
