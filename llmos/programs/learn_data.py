"""learn-data: writes the first rows of a model and the feedback on it as one dataset.

Arguments: `data` (the first rows), `model`, `upto`, `accuracy`, `name`, and `feedback`, the file of feedback.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from llmos.abi.feedback import FeedbackRow, texts_of
from llmos.abi.feedback_file import open_feedback, rows_of
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.learning import OPERATION
from llmos.abi.row_id import RowHmac, fold_text
from llmos.data.datasets.dataset_writer import DatasetWriter
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.feedback.choice import ChosenRows, choose_rows
from llmos.data.labelling.answers import with_label
from llmos.data.row import LabelRow
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, finish, reader_of, size_of
from llmos.programs.dataset_operation import rows_of as rows_in
from llmos.programs.dataset_version import offer_child

SOURCE = "feedback"  # the name of a row's other column with the id of its feedback


def main(channel: Channel, job: Job) -> None:
    """Choose the feedback, then write all rows."""
    args, ref = job.args, str(job.args["data"])
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    hmac = RowHmac(bytes.fromhex(job.row_key))
    on_rows = counter(channel, "read", 2 * size_of(job, ref))
    try:
        splits: dict[str, str] = {}
        for split, stored in rows_in(reader):
            on_rows(1)
            splits.setdefault(_text_id(hmac, stored), split)
        with open_feedback(Path(str(args["feedback"]))) as database:
            rows = list(rows_of(database, str(args["model"]), upto=int(args["upto"])))
        chosen = choose_rows(rows, manifest.labels, splits, float(args.get("accuracy") or 0.0))
        with DatasetWriter(Path(job.scratch) / "dataset", reader.task, options=reader.options) as writer:
            for split, stored in rows_in(reader):
                on_rows(1)
                better = chosen.train.get(_text_id(hmac, stored))
                writer.add(split, stored if better is None else _with_value(stored, better))
            for split, text_id, row in _new_rows(chosen, splits):
                many = bool(reader.options.get("multi_label"))
                bare = LabelRow({"text": texts_of(row.input)}, (), SOURCE, row.id, many)
                writer.add(split, _with_value(StoredRow(text_id, bare), row))
            written = writer.finish()
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    operation: dict[str, Json] = {
        "operation": OPERATION,
        "model": args["model"],
        "root": ref,
        "upto": args["upto"],
        "rows": len(chosen.train),
        "held_out": len(chosen.held_out),
        "left_out": dict(chosen.left_out),
    }
    made = offer_child(channel, job, written, manifest, operation)
    left = "".join(f"; {count:,} left out: {why}" for why, count in chosen.left_out.items())
    finish(channel, made, written, f"{len(chosen.train):,} learned, {len(chosen.held_out):,} held out{left}")


def _text_id(hmac: RowHmac, stored: StoredRow[Any]) -> str:  # Any: a row of the task's family
    return hmac.id_of(fold_text(" | ".join(stored.row.texts)))


def _new_rows(chosen: ChosenRows, splits: dict[str, str]) -> list[tuple[str, str, FeedbackRow]]:
    """The feedback on texts that the first rows do not have, by the split that it goes to."""
    parts = (("train", chosen.train), ("test", chosen.held_out))
    return [(split, text_id, row) for split, part in parts for text_id, row in part.items() if text_id not in splits]


def _with_value(stored: StoredRow[Any], row: FeedbackRow) -> StoredRow[Any]:  # Any: as above
    extra = {**stored.extra, SOURCE: row.id}
    return replace(stored, row=with_label(stored.row, row.value), extra=extra)
