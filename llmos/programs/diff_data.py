"""diff-data: compares two datasets by the ids of their rows. Arguments: `data`, `other`, `reports`."""

from __future__ import annotations

from llmos.abi.frame import Job
from llmos.abi.process import DONE, Progress
from llmos.data.datasets.comparison import compare
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, keep_result, reader_of, size_of


def main(channel: Channel, job: Job) -> None:
    """Keep the differences as JSON, and report how many there are."""
    one, other = str(job.args["data"]), str(job.args["other"])
    total = size_of(job, one, other)
    try:
        found = compare(reader_of(job, one), reader_of(job, other), counter(channel, "compare", total))
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    keep_result(job, found)
    counts = {kind: found[kind]["count"] for kind in ("added", "removed", "changed", "moved")}
    said = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    message = f"{one} to {other}: {said}, {found['same']:,} the same"
    print(message, flush=True)
    channel.report(Progress(DONE, total, total, "rows", {**counts, "same": found["same"]}, message))
