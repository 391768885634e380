"""What the operations on datasets share: their readers, progress that ends when asked, and rows written by a choice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import DONE, Progress
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.datasets.dataset_writer import DatasetWriter, WrittenDataset
from llmos.data.datasets.row_table import EVERY
from llmos.data.datasets.stored_row import StoredRow
from llmos.programs.channel import Channel, Stopped

RESULT = "result.json"
Place = Callable[[int, str], str | None]
"""The split that a row goes to, by its number in the dataset and the split where it is; None: it is left out."""


def reader_of(job: Job, ref: str) -> DatasetReader:
    """The reader of a dataset in the arguments."""
    return DatasetReader(Path(job.datasets[ref]), job.manifests[ref], key=bytes.fromhex(job.row_key))


def counter(channel: Channel, phase: str, total: int) -> Callable[[int], None]:
    """A callback that is told how many more rows are done; it raises Stopped once the process is asked to stop."""
    done = 0

    def on_rows(rows: int) -> None:
        nonlocal done
        if channel.stop_asked:
            raise Stopped
        done += rows
        channel.report(Progress(phase, done, total, "rows"))

    return on_rows


def size_of(job: Job, *refs: str) -> int:
    """How many rows these datasets have."""
    return sum(sum(job.manifests[ref].splits.values()) for ref in refs)


def rows_of(reader: DatasetReader) -> Iterator[tuple[str, StoredRow[Any]]]:
    """All rows with their splits."""
    for split in reader.splits:
        for stored in reader.rows(split):
            yield split, stored


def write_chosen(
    folder: Path,
    sources: list[tuple[DatasetReader, Place]],
    on_rows: Callable[[int], None],
    options: dict[str, Json],
) -> WrittenDataset:
    """Write the rows of these datasets, each to the split that its place says."""
    with DatasetWriter(folder, sources[0][0].task, options=options) as writer:
        for reader, place in sources:
            for number, (split, stored) in enumerate(rows_of(reader)):
                to = place(number, split)
                if to is not None:
                    writer.add(to, stored)
                if number % EVERY == EVERY - 1:
                    on_rows(EVERY)
        return writer.finish()


def finish(channel: Channel, ref: str, written: WrittenDataset, said: str) -> None:
    """Report the new version, with its splits."""
    count = sum(written.counts.values())
    splits = ", ".join(f"{name} {rows:,}" for name, rows in written.counts.items())
    print(said, flush=True)
    channel.report(Progress(DONE, count, count, "rows", {"rows": count}, f"{ref}: {count:,} rows ({splits}). {said}"))


def keep_result(job: Job, found: Json) -> None:
    """Keep what was found, atomically, where it outlives the process."""
    folder = Path(str(job.args.get("reports") or Path(job.scratch) / "reports"))
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".tmp-{RESULT}"
    aside.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    aside.rename(folder / RESULT)
