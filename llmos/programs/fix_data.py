"""fix-data: writes a dataset without some rows, or with other labels, as a check's report and the user say.

Arguments: `data`, `name`, `drop` and `relabel` (kinds of findings), `keep` and `only` (row ids), `least_score`,
`with_test`, `with_doubt`, `dry_run`; the daemon's own are `report`, the folder of the check's report, and `reports`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import DONE, Progress
from llmos.data.checks.mending import MEASURING, Mending, check_relabel, plan, relabel_row
from llmos.data.checks.report import JSON_FILE, write_kept
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.datasets.dataset_writer import DatasetWriter, WrittenDataset
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, finish, keep_result, reader_of, rows_of, size_of
from llmos.programs.dataset_version import offer_child


def main(channel: Channel, job: Job) -> None:
    """Plan the mending, then write the version; a dry run keeps the plan alone."""
    args, ref = job.args, str(job.args["data"])
    report = _report(Path(str(args["report"])) / JSON_FILE, ref)
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    relabel = list(args.get("relabel") or ())
    check_relabel(relabel)
    try:
        test_ids = (row.id for row in reader.rows(MEASURING)) if MEASURING in reader.splits else ()
        mending = plan(
            report["findings"],
            frozenset(test_ids),
            drop=list(args.get("drop") or ()),
            relabel=relabel,
            keep=list(args.get("keep") or ()),
            only=list(args.get("only") or ()),
            least_score=float(args.get("least_score") or 0.0),
            with_test=bool(args.get("with_test")),
            with_doubt=bool(args.get("with_doubt")),
        )
        said = sentence_of(mending)
        keep_result(job, {"dropped": mending.dropped, "relabelled": mending.relabelled, "kept": mending.kept})
        if args.get("dry_run"):
            channel.report(Progress(DONE, 0, 0, "rows", _figures(mending), f"{ref} would be mended: {said}"))
            return
        written = _write(channel, job, reader, mending)
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    earlier: Mapping[str, Json] = manifest.provenance.get("kept") or {}
    kept = {kind: sorted({*earlier.get(kind, ()), *mending.kept.get(kind, ())}) for kind in {*earlier, *mending.kept}}
    operation: dict[str, Json] = {
        "operation": "fix",
        **{key: args[key] for key in ("drop", "relabel", "least_score", "with_test", "with_doubt") if args.get(key)},
        "counts": dict(mending.counts),
    }
    made = offer_child(
        channel, job, written, manifest, operation, more={"provenance": {"kept": kept}} if kept else None
    )
    if kept:
        write_kept(Path(str(args["report"])).parent / made, kept)
    finish(channel, made, written, said)


def sentence_of(mending: Mending) -> str:
    """What is done, in one sentence."""
    parts = [f"{count:,} {what}" for what, count in mending.counts.items()]
    kept = sum(map(len, mending.kept.values()))
    parts += [f"{kept:,} kept"] if kept else []
    if mending.skipped_test_rows:
        parts.append(f"{mending.skipped_test_rows:,} test rows stay as they are (with_test changes them)")
    return "; ".join(parts)


def _figures(mending: Mending) -> dict[str, float]:
    return {name.replace(" ", "_"): float(count) for name, count in mending.counts.items()}


def _report(path: Path, ref: str) -> dict[str, Json]:
    if not path.exists():
        raise BadInput(f"{ref} was not checked yet. First: llmos data check {ref}", dataset=ref, reason="no_check")
    found: dict[str, Json] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _write(channel: Channel, job: Job, reader: DatasetReader, mending: Mending) -> WrittenDataset:
    on_rows = counter(channel, "write", size_of(job, str(job.args["data"])))
    with DatasetWriter(Path(job.scratch) / "dataset", reader.task, options=reader.options) as writer:
        for split, stored in rows_of(reader):
            on_rows(1)
            if stored.id in mending.dropped:
                continue
            new = mending.relabelled.get(stored.id)
            writer.add(split, stored if new is None else relabel_row(stored, new))
        return writer.finish()
