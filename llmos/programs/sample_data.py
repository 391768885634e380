"""sample-data: writes some of a dataset's rows, chosen by seed and id.

Arguments: `data`, `name`, `n` or `share`, `balance`, `seed`, `split` (only its rows).
"""

from __future__ import annotations

from array import array
from pathlib import Path

from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.recipe import UNLABELLED
from llmos.data.datasets.row_table import EVERY
from llmos.data.datasets.sampling import choose_sample
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, finish, reader_of, rows_of, size_of, write_chosen
from llmos.programs.dataset_version import offer_child


def main(channel: Channel, job: Job) -> None:
    """Read once to choose, once to write."""
    import numpy as np

    args, ref = job.args, str(job.args["data"])
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    only, balance, seed = args.get("split"), bool(args.get("balance")), int(args.get("seed", 7))
    ids, strata, numbers = array("Q"), list[str](), array("Q")
    known: dict[str, str] = {}  # one object for equal strata
    try:
        on_rows = counter(channel, "choose", size_of(job, ref))
        for number, (split, stored) in enumerate(rows_of(reader)):
            if only == split or (only is None and not (balance and split == UNLABELLED)):
                stratum = "\0".join([split, *sorted(stored.row.kinds)])
                strata.append(known.setdefault(stratum, stratum))
                ids.append(int(stored.id, 16))
                numbers.append(number)
            if number % EVERY == EVERY - 1:
                on_rows(EVERY)
        said = {key: args.get(key) for key in ("n", "share")}
        mask = choose_sample(
            np.array(ids, np.uint64), strata, seed, count=said["n"], share=said["share"], balance=balance
        )
        chosen = set(np.array(numbers)[mask].tolist())
        written = write_chosen(
            Path(job.scratch) / "dataset",
            [(reader, lambda number, split: split if number in chosen else None)],
            counter(channel, "write", size_of(job, ref)),
            reader.options,
        )
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    operation: dict[str, Json] = {"operation": "sample", "seed": seed, "balance": balance, "split": only, **said}
    made = offer_child(
        channel, job, written, manifest, {key: value for key, value in operation.items() if value is not None}
    )
    finish(channel, made, written, "As many of every label" if balance else "Of every label the same share")
