"""split-data: takes validation and test rows from the training rows: stratified, by group, or the latest.

Arguments: `data`, `name`, `validation` and `test` (shares), `group` or `time` (columns), `again` (put all rows together
first). What is chosen depends on the texts or groups alone, not on a seed.
"""

from __future__ import annotations

from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.recipe import UNLABELLED
from llmos.abi.weak_labels import WEAK_LABEL
from llmos.data.datasets.dataset_reader import DatasetReader, row_options
from llmos.data.datasets.row_table import EVERY
from llmos.data.datasets.split_by import MADE, SplitBy, SplitUnit, choose_units, split_by
from llmos.programs.channel import Channel, Stopped
from llmos.programs.dataset_operation import counter, finish, reader_of, rows_of, size_of, write_chosen
from llmos.programs.dataset_version import offer_child

SHARE = 0.1


def main(channel: Channel, job: Job) -> None:
    """Read once to choose, once to write."""
    args, ref = job.args, str(job.args["data"])
    reader, manifest = reader_of(job, ref), job.manifests[ref]
    by = _columns(args, reader)
    shares = {name: float(args.get(name, SHARE)) for name in MADE}
    again = bool(args.get("again"))
    missing = [name for name in MADE if shares[name] > 0 and (again or name not in reader.splits)]
    if not missing:
        raise BadInput(
            f"{ref} has the splits {', '.join(reader.splits)} already. Put all rows together and split them again "
            "with again (--again)",
            key="again",
        )
    try:
        numbers, units = _units(reader, by, again, channel, size_of(job, ref))
        if not units:
            raise BadInput(f"{ref} has no training rows to take others from. Use again (--again)", key="again")
        target: dict[int, str] = {}
        left = list(range(len(units)))
        for name in missing:
            wanted = shares[name] * len(units) / len(left)
            chosen = choose_units([units[i] for i in left], wanted, name, by_time=bool(by.time))
            target |= {numbers[left[i]]: name for i in chosen}
            left = [one for i, one in enumerate(left) if i not in chosen]
        written = write_chosen(
            Path(job.scratch) / "dataset",
            [(reader, lambda number, split: target.get(number, "train" if again and split != UNLABELLED else split))],
            counter(channel, "write", size_of(job, ref)),
            row_options(reader.options) | _column_option(by),
        )
    except Stopped:
        print("Stopped; nothing is kept", flush=True)
        return
    how = f"by {by.time}, the latest are the test rows" if by.time else f"by {by.group}" if by.group else "stratified"
    operation: dict[str, Json] = {"operation": "split", **shares, **_column_option(by), "again": again}
    made = offer_child(channel, job, written, manifest, operation)
    finish(channel, made, written, f"Split {how}{_parted_note(units, numbers, target, by)}")


def _parted_note(units: list[SplitUnit], numbers: list[int], target: dict[int, str], by: SplitBy) -> str:
    """What is said of groups that a split by time has parted; nothing if there are none."""
    splits: dict[bytes, set[str]] = {}
    for number, unit in zip(numbers, units, strict=True):
        splits.setdefault(unit.group, set()).add(target.get(number, "train"))
    parted = sum(len(splits[unit.group]) > 1 for unit in units)
    if not (by.group and by.time and parted):
        return ""
    return (
        f". {parted:,} rows are of a {by.group} that now stands in several splits. To keep each {by.group} together "
        f"instead: --group {by.group} --again"
    )


def _columns(args: dict[str, Json], reader: DatasetReader) -> SplitBy:
    """The column that was named, else the one that the dataset was imported with."""
    if args.get("group") or args.get("time"):
        by = SplitBy(str(args.get("group") or ""), str(args.get("time") or ""))
    else:
        by = split_by(reader.options)
    return by


def _column_option(by: SplitBy) -> dict[str, Json]:
    return {key: value for key, value in (("group", by.group), ("time", by.time)) if value}


def _units(
    reader: DatasetReader, by: SplitBy, again: bool, channel: Channel, total: int
) -> tuple[list[int], list[SplitUnit]]:
    """The rows to choose from, by their numbers in the dataset; BadInput if none has the group's column."""
    numbers, units, has_group, by_rules = [], [], 0, 0
    on_rows = counter(channel, "choose", total)
    for number, (split, stored) in enumerate(rows_of(reader)):
        if WEAK_LABEL in stored.extra:
            by_rules += 1  # they stay where they are: what is measured on must be right
        elif split == "train" or (again and split != UNLABELLED):
            numbers.append(number)
            units.append(by.unit(stored))
            has_group += by.group_in(stored.extra) is not None
        if number % EVERY == EVERY - 1:
            on_rows(EVERY)
    if by_rules and not units:
        raise BadInput(
            f"All {by_rules:,} rows of {reader.ref} that have a label have it by rules, and test rows must be right. "
            "Bring labelled rows: llmos data import, then llmos data merge",
            dataset=reader.ref,
            reason="labels_by_rules",
        )
    if by.group and not by.time and not has_group:
        raise BadInput(f"No row of {reader.ref} has a column {by.group!r}. See: llmos data show", key="group")
    if by.group and not by.time and has_group < len(units):
        print(f"{len(units) - has_group:,} rows have no {by.group}: each text of them is a group", flush=True)
    return numbers, units
