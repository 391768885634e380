"""import-data: streams files into a dataset's splits, with ids, and with what the rows were not made of beside them.

Arguments: `name`, `data`, `options`; `task`, where the content does not decide it; `license`, `source`; `group` and
`time`, the columns by which splits keep rows together or apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from llmos.abi.error import BadInput, BadRow
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.objective import DETECT, PLAIN, takes_preferences
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import UNLABELLED, Data
from llmos.abi.task import PREFERENCES, spec_of
from llmos.abi.wire import from_plain
from llmos.data.dataset import describe_source
from llmos.data.datasets.columns import SPLITS
from llmos.data.datasets.dataset_reader import row_options
from llmos.data.datasets.dataset_writer import DatasetWriter
from llmos.data.datasets.row_ids import RowIds
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.formats.saved_dataset import splits_of
from llmos.data.reader import RowStream, stream_rows
from llmos.data.row import Row, Rows
from llmos.data.table import bad_row
from llmos.data.task_guess import guess_task
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_version import offer_dataset

BATCH_ROWS = 4096
BATCH_CHARS = 8 * 1024 * 1024
GROUP, TIME = "group", "time"


def main(channel: Channel, job: Job) -> None:
    """Write every split, then offer the version; what is the same as an earlier version becomes that one."""
    args = job.args
    data = Data(args["data"]) if isinstance(args["data"], str) else from_plain(args["data"], Data)
    channel.report(Progress("read", unit="rows"))
    task = str(args.get("task") or _guess_task(data))
    options = _check_options(task, args.get("options") or {})
    options = options | _form_of_preferences(data, task, options)
    columns = {key: str(args[key]) for key in (GROUP, TIME) if args.get(key)}
    importing = _Import(channel, data, task, options, columns, RowIds(bytes.fromhex(job.row_key)))
    try:
        with DatasetWriter(Path(job.scratch) / "dataset", task, options=row_options(options) | columns) as writer:
            for split, source in _sources(data).items():
                importing.read(split, source, writer)
            importing.refuse_bad()
            written = writer.finish()
    except Stopped:
        print("Stopped before all rows were read; nothing is kept", flush=True)
        return
    kept = [f"kept beside the rows: {', '.join(map(repr, sorted(written.extras)))}"] if written.extras else []
    notes = [*dict.fromkeys(importing.notes), *kept, *_unknown_labels(written.label_counts)]
    for note in notes:
        print(note, flush=True)
    remark = {"source": str(args["source"])} if args.get("source") else {}
    ref = offer_dataset(
        channel,
        job,
        written,
        name=str(args["name"]),
        operation={"operation": "import", **remark},
        license=str(args.get("license") or ""),
        notes=notes,
        more={"provenance": {"sources": importing.described}},
    )
    count = sum(written.counts.values())
    splits = ", ".join(f"{name} {rows:,}" for name, rows in written.counts.items())
    skipped = f"; left out: {importing.skipped:,}" if importing.skipped else ""
    leaks = "".join(f"; {rows:,} {split} rows are also in an earlier split" for split, rows in importing.leaks.items())
    message = f"{ref}: {count:,} rows for {task} ({splits}){skipped}{leaks}"
    figures: dict[str, float] = {"rows": count, "skipped": importing.skipped, "leaks": sum(importing.leaks.values())}
    channel.report(Progress(DONE, count, count, "rows", figures, message))


@dataclass(slots=True)
class _Import:
    """What is found while the files are read, one after another."""

    channel: Channel
    data: Data
    task: str
    options: dict[str, Json]
    columns: Mapping[str, str]  # group and time
    ids: RowIds
    described: dict[str, Json] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    leaks: dict[str, int] = field(default_factory=dict)  # rows by split whose text is in an earlier one
    bad: list[BadRow] = field(default_factory=list)
    count: int = 0
    skipped: int = 0
    started_at: float = field(default_factory=time.monotonic)

    def read(self, split: str, source: str, writer: DatasetWriter) -> None:
        """Add the file's rows to the split. Its bad rows are kept for the error, so that the next file is read too."""
        is_labelled = split != UNLABELLED
        data = self.data if is_labelled else replace(self.data, format=None, query=None)
        stream = stream_rows(source, data, self.task, self.options, is_labelled=is_labelled)
        self._check_columns(stream)
        self.ids.begin_split()
        kinds: dict[str, Row] = {}  # a row of each label
        count = 0
        try:
            for batch in _batches(stream):
                rows = [row for row, _ in batch]
                for id, (row, extra) in zip(self.ids.of(rows), batch, strict=True):
                    writer.add(split, StoredRow(id, row, extra))
                kinds.update((kind, row) for row in rows for kind in row.kinds)
                count += len(rows)
                self._report(len(rows))
            if kinds:
                stream.reader.check(tuple(kinds.values()))
        except BadRow as error:
            self.bad.append(error)
            return
        if not count:
            self.bad.append(_no_row(source, stream))
            return
        summary: Rows[Any] = replace(stream.summary(), left_out=stream.columns_gone())
        self.described[split] = describe_source(summary, count)
        self.notes += summary.notes
        if self.ids.leak_count:
            self.described[split]["leaks"] = self.ids.leak_count
            self.leaks[split] = self.ids.leak_count
            note = _leak_note if is_labelled else _known_note
            self.notes.append(note(split, self.ids.leak_count, count))
        self.skipped += summary.skip_count

    def refuse_bad(self) -> None:
        """One BadRow for all files that have bad rows."""
        if len(self.bad) == 1:
            raise self.bad[0]
        if self.bad:
            first = dict(self.bad[0].detail)
            counts = [int(one.detail.get("count", 1)) for one in self.bad]
            raise BadRow("\n".join(one.message for one in self.bad), **{**first, "count": sum(counts)})

    def _check_columns(self, stream: RowStream[Any]) -> None:
        """Group and time must be columns that stay beside the rows."""
        kept = set(stream.left_out())
        for key, name in self.columns.items():
            if name not in kept:
                names = ", ".join(sorted(kept)) or "none"
                raise BadInput(
                    f"{stream.table.path.name} has no column {name!r} to {key} by. Beside text and label there are: "
                    f"{names}",
                    key=key,
                    value=name,
                    expected=sorted(kept),
                )

    def _report(self, rows: int) -> None:
        if self.channel.stop_asked:
            raise Stopped
        self.count += rows
        rate = self.count / max(1e-9, time.monotonic() - self.started_at)
        self.channel.report(Progress("read", self.count, 0, "rows", {"rate": rate}))


def _batches(stream: RowStream[Any]) -> Iterator[list[tuple[Any, Mapping[str, Json]]]]:
    """The rows by thousands; fewer, where they are long."""
    rows = stream.with_extras()
    while batch := list(islice(rows, 1)):
        chars = 0
        for pair in islice(rows, BATCH_ROWS - 1):
            batch.append(pair)
            chars += len(pair[0].texts[0])
            if chars > BATCH_CHARS:
                break
        yield batch


def _sources(data: Data) -> dict[str, str]:
    """The file of each split; of a folder that save_to_disk wrote, those of its splits."""
    told = {"train": data.train, "validation": data.validation, "test": data.test, UNLABELLED: data.unlabelled}
    own = splits_of(data.train) if data.train else {}
    return {name: source for name in SPLITS if (source := told[name] or own.get(name))}


def _guess_task(data: Data) -> str:
    if not data.train:
        raise BadInput("Rows without labels do not tell what they are for. Name the task: --task classify", key="task")
    return guess_task(data.train, data)


def _check_options(task: str, options: Mapping[str, Json]) -> dict[str, Json]:
    known = {one.name for one in spec_of(task).settings if one.is_option} | {"skip_empty"}
    if unknown := sorted(options.keys() - known):
        raise BadInput(
            f"{task} has no option {unknown[0]!r}. There are: {', '.join(sorted(known))}",
            key=unknown[0],
            expected=sorted(known),
        )
    return dict(options)


def _form_of_preferences(data: Data, task: str, options: Mapping[str, Json]) -> dict[str, Json]:
    """How preference rows are read, if there are any: as the options say, else by the columns of the first file."""
    asked = options.get(PREFERENCES.name, DETECT)
    sources = [source for split, source in _sources(data).items() if split != UNLABELLED]
    if not takes_preferences(task) or asked != DETECT or not sources:
        return {}
    stream = stream_rows(sources[0], data, task, {**options, PREFERENCES.name: DETECT})
    return {PREFERENCES.name: PLAIN, **stream.reader.options}


def _no_row(source: str, stream: RowStream[Any]) -> BadRow:
    counts = ", ".join(f"{count:,} {reason}" for reason, count in stream.skipped.items()) or "it has none"
    way_out = "It needs at least one row of text and label"
    return bad_row(Path(source), 1, f"no row is left to read ({counts})", way_out, kind="no_rows")


def _leak_note(split: str, leaks: int, rows: int) -> str:
    return (
        f"{split}: {leaks:,} of {rows:,} rows ({leaks / rows:.1%}) are also in an earlier split. Measured "
        "there, a model looks better than it is. Find them, and those that are almost the same: llmos data check. Drop "
        "the earlier rows: llmos data fix --drop leaks"
    )


def _known_note(split: str, known: int, rows: int) -> str:
    """Nothing is measured on rows without labels: those that have labels elsewhere are only work done twice."""
    return (
        f"{split}: {known:,} of {rows:,} rows ({known / rows:.1%}) stand in another split too, with their labels. "
        "They need no label again"
    )


def _unknown_labels(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A note for each split with labels that no training row has: a model cannot be right about them."""
    known = counts.get("train", {})
    notes = []
    for name, labels in counts.items():
        if unknown := sorted(labels.keys() - known.keys()) if known else []:
            shown = ", ".join(map(repr, unknown[:5]))
            notes.append(f"{name}: {len(unknown):,} labels are in no training row ({shown}): training refuses them")
    return notes
