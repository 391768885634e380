"""merge-data: writes the rows of several datasets, each id once.

Arguments: `data`, `others`, `name`, `prefer` (first or last, where contents differ).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmos.abi.frame import Job
from llmos.data.datasets.merging import check_tasks, plan_merge, shared_options
from llmos.data.datasets.row_table import table_of
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import Place, counter, finish, reader_of, size_of, write_chosen
from llmos.programs.dataset_version import offer_dataset


def main(channel: Channel, job: Job) -> None:
    """Read all to find equal ids, then write."""
    args = job.args
    refs = [str(args["data"]), *map(str, args["others"])]
    readers = [reader_of(job, ref) for ref in refs]
    check_tasks(readers)
    total = size_of(job, *refs)
    try:
        on_rows = counter(channel, "compare", total)
        plan = plan_merge([table_of(reader, on_rows) for reader in readers], refs, str(args.get("prefer") or ""))
        places = [_place(kept) for kept in plan.kept]
        sources = list(zip(readers, places, strict=True))
        options = shared_options(readers)
        on_rows = counter(channel, "write", total)
        written = write_chosen(Path(job.scratch) / "dataset", sources, on_rows, options)
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    manifests = [job.manifests[ref] for ref in refs]
    licenses = list(dict.fromkeys(one.license for one in manifests if one.license))
    made = offer_dataset(
        channel,
        job,
        written,
        name=str(args["name"]),
        parents=refs,
        operation={"operation": "merge", "again": plan.again_count, "conflicts": plan.conflict_count},
        license=" and ".join(licenses),
        notes=list(dict.fromkeys(note for one in manifests for note in one.notes)),
    )
    said = f"{plan.again_count:,} rows came again and are in it once"
    if plan.conflict_count:
        said += f"; of {plan.conflict_count:,} that differed, the {args['prefer']} counts"
    finish(channel, made, written, said)


def _place(kept: Any) -> Place:  # Any: an array
    return lambda number, split: split if kept[number] else None
