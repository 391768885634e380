"""find-rows: looks for ids of rows, and for rows of equal texts, in all datasets. Arguments: `ids`, `reports`."""

from __future__ import annotations

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.process import DONE, Progress
from llmos.abi.row_id import RowHmac
from llmos.data.datasets.row_table import EVERY, plain_row
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, keep_result, reader_of, rows_of, size_of

TWINS = 1000  # rows of an equal text in one dataset that are looked for
MOST_ROWS = 1000


def main(channel: Channel, job: Job) -> None:
    """Keep the rows that were found, with their datasets."""
    hmac = RowHmac(bytes.fromhex(job.row_key))
    wanted = {twin for id in job.args["ids"] for twin in (id, *(hmac.twin_of(id, one) for one in range(1, TWINS)))}
    total = size_of(job, *job.datasets)
    on_rows = counter(channel, "look", total)
    rows: list[dict[str, Json]] = []
    count = 0
    try:
        for ref in job.datasets:
            reader = reader_of(job, ref)
            for number, (split, stored) in enumerate(rows_of(reader)):
                if stored.id in wanted or _is_made_of(stored.origin, wanted):
                    count += 1
                    if len(rows) < MOST_ROWS:
                        rows.append({"dataset": ref, **plain_row(reader.task, reader.options, split, stored)})
                if number % EVERY == EVERY - 1:
                    on_rows(EVERY)
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    keep_result(job, {"count": count, "rows": rows, "datasets": sorted({row["dataset"] for row in rows})})
    message = f"{count:,} rows in {len({row['dataset'] for row in rows}):,} of {len(job.datasets):,} datasets"
    channel.report(Progress(DONE, total, total, "rows", {"rows": count}, message))


def _is_made_of(origin: Json, wanted: set[str]) -> bool:
    """Whether a row was made of one that is looked for."""
    return origin is not None and not wanted.isdisjoint(origin.get("parents", ()))
