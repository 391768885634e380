"""learn-data: writes the first rows of a model and the feedback on it as one dataset.

Arguments: `data` (the first rows), `model`, `upto`, `accuracy`, `name`, and `feedback`, the file of feedback.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from llmos.abi.feedback import FeedbackRow
from llmos.abi.feedback_file import open_feedback, rows_of
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.learning import OPERATION
from llmos.abi.row_id import RowHmac, fold_text
from llmos.data.datasets.dataset_writer import DatasetWriter
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.feedback.choice import ChosenRows, choose_rows
from llmos.data.feedback.told_rows import (
    SOURCE,
    UNUSED,
    ToldFamily,
    answer_told_of,
    has_many_answers,
    in_place_of,
    is_replaced_once,
    told_family,
)
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, finish, reader_of, size_of
from llmos.programs.dataset_operation import rows_of as rows_in
from llmos.programs.dataset_version import offer_child


def main(channel: Channel, job: Job) -> None:
    """Choose the feedback, then write all rows."""
    args, ref = job.args, str(job.args["data"])
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    hmac = RowHmac(bytes.fromhex(job.row_key))
    on_rows = counter(channel, "read", 2 * size_of(job, ref))
    try:
        splits: dict[str, str] = {}
        ids: set[str] = set()
        for split, stored in rows_in(reader):
            on_rows(1)
            ids.add(stored.id)
            splits.setdefault(_text_id(hmac, stored), split)
        with open_feedback(Path(str(args["feedback"]))) as database:
            rows = list(rows_of(database, str(args["model"]), upto=int(args["upto"])))
        told = ToldRows(hmac, reader.task, reader.options)
        chosen = told.choose(rows, manifest.labels, splits, float(args.get("accuracy") or 0.0))
        with DatasetWriter(Path(job.scratch) / "dataset", reader.task, options=reader.options) as writer:
            replaced: set[tuple[str, str]] = set()
            for split, stored in rows_in(reader):
                on_rows(1)
                text_id = _text_id(hmac, stored)
                better = None if has_many_answers(stored.row) else chosen.train.get(text_id)
                if better is None:
                    writer.add(split, stored)
                elif not (is_replaced_once(stored.row) and (split, text_id) in replaced):
                    replaced.add((split, text_id))
                    writer.add(split, told.in_place_of(stored, better))
            for split, row in _new_rows(chosen, splits):
                new = told.new_row(row, ids)
                ids.add(new.id)
                writer.add(split, new)
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
    left = "".join(f"; {number:,} left out: {why}" for why, number in chosen.left_out.items())
    finish(channel, made, written, f"{len(chosen.train):,} learned, {len(chosen.held_out):,} held out{left}")


def _text_id(hmac: RowHmac, stored: StoredRow[Any]) -> str:  # Any: a row of the task's family
    return hmac.id_of(fold_text(" | ".join(stored.row.texts)))


def _new_rows(chosen: ChosenRows, splits: dict[str, str]) -> list[tuple[str, FeedbackRow]]:
    """The feedback that takes no row's place, by the split that it goes to: what is named by no text of the rows."""
    parts = (("train", chosen.train), ("test", chosen.held_out))
    return [(split, row) for split, part in parts for name, row in part.items() if name not in splits]


@dataclass(frozen=True, slots=True)
class ToldRows:
    """Feedback as rows of a dataset of this task and these options."""

    hmac: RowHmac
    task: str
    options: Mapping[str, Json]

    def choose(
        self, rows: Sequence[FeedbackRow], labels: Sequence[str], splits: Mapping[str, str], accuracy: float
    ) -> ChosenRows:
        """Choose among what can be rows here; texts are the same where the rows' are, as words and as a text."""
        family, usable, answers = self._family, [], dict[int, str]()
        for row in rows:
            made = family.row_of(self.options, row, None)
            if made is not None:
                usable.append(replace(row, text_id=_text_id(self.hmac, StoredRow("", made))))
                if has_many_answers(made):
                    answers[row.id] = answer_told_of(made)

        def group(row: FeedbackRow) -> str:
            return f"{row.text_id} {answers[row.id]}" if row.id in answers else row.text_id

        held_out = {row.text_id for row in usable if row.is_held_out}
        usable = [replace(row, is_held_out=row.text_id in held_out) for row in usable]
        chosen = choose_rows(usable, family.known(labels), splits, accuracy, family.labels_in, group)
        if len(rows) > len(usable):
            chosen.left_out[UNUSED] = len(rows) - len(usable)
        return chosen

    def new_row(self, row: FeedbackRow, ids: Collection[str]) -> StoredRow[Any]:  # Any: a row of the task's family
        """A row beside those of the dataset, with an id that none of these has."""
        twins = (self.hmac.twin_of(row.text_id, occurrence) for occurrence in count(1))
        own = next(one for one in chain((row.text_id,), twins) if one not in ids)
        return StoredRow(own, self._family.row_of(self.options, row, None), {SOURCE: row.id})

    def in_place_of(self, stored: StoredRow[Any], row: FeedbackRow) -> StoredRow[Any]:  # Any: as above
        """A row of the dataset, with what feedback says of its text."""
        made = self._family.row_of(self.options, row, stored.row)
        assert made is not None, "only rows that can be made are chosen"
        return replace(stored, row=in_place_of(stored.row, made), extra={**stored.extra, SOURCE: row.id})

    @property
    def _family(self) -> ToldFamily:
        found = told_family(self.task)
        assert found is not None, f"an order for {self.task} is refused"
        return found
