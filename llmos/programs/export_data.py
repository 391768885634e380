"""export-data: writes a dataset in another format. Arguments: `data`, `format`, `split`, `scheme`, `reports`.

The file is `export` in the folder of reports, and result.json says its name, size, digest and what it does not carry.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmos.abi.frame import Job
from llmos.abi.model import DatasetManifest
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import UNLABELLED
from llmos.data.byte_source import sha256_of_file
from llmos.data.datasets.row_table import EVERY
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.exports.export import ExportedDataset
from llmos.data.exports.registry import export_named
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, keep_result, reader_of, rows_of

EXPORT = "export"


def main(channel: Channel, job: Job) -> None:
    """Write the rows, and keep the file where clients fetch it from."""
    ref = job.args["data"]
    manifest, split = job.manifests[ref], job.args.get("split")
    splits = _splits_of(manifest, split)
    total = sum(manifest.splits[name] for name in splits)
    folder = Path(str(job.args.get("reports") or Path(job.scratch) / "reports"))
    scheme = str(job.args.get("scheme") or "iob2")
    dataset = ExportedDataset(
        manifest.task, dict(manifest.options), tuple(manifest.labels), tuple(manifest.extras), scheme
    )
    export = export_named(str(job.args["format"]), dataset, is_labelled=splits != (UNLABELLED,))
    aside = Path(job.scratch) / EXPORT
    rows = (stored for name, stored in rows_of(reader_of(job, ref)) if name in splits)
    try:
        export.write(aside, _count_rows(rows, counter(channel, "write", total)), dataset)
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    size_bytes, digest = aside.stat().st_size, sha256_of_file(aside)
    shutil.move(aside, folder / EXPORT)
    name = f"{ref.replace('@', '-')}{f'-{split}' if split else ''}.{export.ending}"
    found = {"name": name, "format": export.name, "rows": total, "size_bytes": size_bytes, "sha256": digest}
    rest = sum(manifest.splits.values()) - total if split in (None, "all") else 0
    others = f"the {rest:,} unlabelled rows (--split unlabelled)" * bool(rest)
    loses = " and ".join(filter(None, (export.loses, "which split a row is of" * (len(splits) > 1), others)))
    keep_result(job, {**found, "loses": loses})
    lost = f". It does not carry {loses}" if loses else ""
    channel.report(Progress(DONE, total, total, "rows", {"rows": total}, f"{total:,} rows as {export.name}{lost}"))


def _splits_of(manifest: DatasetManifest, split: str | None) -> tuple[str, ...]:
    """The split that was named, or all; unlabelled rows stand alone, for no file can say which rows are such."""
    if split not in (None, "all"):
        return (str(split),)
    return tuple(name for name in manifest.splits if name != UNLABELLED) or (UNLABELLED,)


def _count_rows(rows: Iterator[StoredRow[Any]], on_rows: Callable[[int], None]) -> Iterator[StoredRow[Any]]:
    for number, stored in enumerate(rows, 1):
        yield stored
        if not number % EVERY:
            on_rows(EVERY)
