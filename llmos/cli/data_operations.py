"""data split, merge, sample, diff, find: new versions made of datasets, and what stands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.cli.client import box
from llmos.cli.data_import import finish
from llmos.cli.data_versions import DatasetRef, text_of
from llmos.cli.recipe_options import AsJson, Wait
from llmos.cli.terminal import note, say, say_json, say_table

if TYPE_CHECKING:
    from llmos.abi.json_type import Json
    from llmos.abi.process import Process
    from llmos.sdk.client import Client

Name = Annotated[str | None, typer.Option("--name", help="The new version's name.")]


def split(
    ref: DatasetRef,
    test: Annotated[float, typer.Option(help="The share of test rows; 0: none.")] = 0.1,
    validation: Annotated[float, typer.Option(help="The share of validation rows; 0: none.")] = 0.1,
    group: Annotated[str | None, typer.Option(help="Do not part rows of one value of this column.")] = None,
    time: Annotated[str | None, typer.Option(help="Take the latest rows by this column.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Put the rows of all splits together first.")] = False,
    name: Name = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Take test and validation rows from the training rows."""
    with box() as client:
        process = client.split_dataset(
            ref, test=test, validation=validation, group=group, time=time, again=again, name=name, wait=False
        )
        finish(client, process, wait=wait, as_json=as_json)


def merge(
    refs: Annotated[list[str], typer.Argument(metavar="DATASET DATASET...", help="Datasets of one task.")],
    prefer: Annotated[
        str | None, typer.Option(help="first or last: which counts, where a row is in several and differs.")
    ] = None,
    name: Name = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Join datasets; a row that several have is in the new one once."""
    if len(refs) < 2:
        raise BadInput("merge joins datasets. Name two or more: llmos data merge ONE OTHER", key="others")
    with box() as client:
        process = client.merge_datasets(refs[0], *refs[1:], prefer=prefer, name=name, wait=False)
        finish(client, process, wait=wait, as_json=as_json)


def sample(
    ref: DatasetRef,
    n: Annotated[int | None, typer.Option("-n", "--n", help="So many rows.")] = None,
    share: Annotated[float | None, typer.Option(help="This share of the rows.")] = None,
    balance: Annotated[bool, typer.Option("--balance", help="As many rows of every label.")] = False,
    seed: Annotated[int | None, typer.Option(help="Another seed, other rows (default 7).")] = None,
    split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    name: Name = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Take some of the rows."""
    with box() as client:
        process = client.sample_dataset(
            ref, n=n, share=share, balance=balance, seed=seed, split=split, name=name, wait=False
        )
        finish(client, process, wait=wait, as_json=as_json)


def diff(
    ref: Annotated[str, typer.Argument(metavar="BEFORE", help="A name (its newest version), or name@version.")],
    other: Annotated[str, typer.Argument(metavar="AFTER", help="The one to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Compare two datasets: rows added, removed, changed, by their ids."""
    with box() as client:
        process = client.operate_dataset(ref, "diff", other=other, wait=False)
        found = _result(client, process, quiet=as_json)
    if as_json:
        say_json(found)
        return
    say(f"{found['before']} ({found['rows']['before']:,} rows) to {found['after']} ({found['rows']['after']:,} rows)")
    counts = [(kind, found[kind]["count"]) for kind in ("added", "removed", "changed", "moved")]
    say_table(("WHAT", "ROWS"), [*counts, ("the same", found["same"]), *found["moved"]["splits"].items()])
    labels = [(label, one["before"], one["after"]) for label, one in found["labels"].items()]
    if changed := [(label, old, new, f"{new - old:+,}") for label, old, new in labels if old != new]:
        say()
        say_table(("LABEL", "BEFORE", "AFTER", "CHANGE"), changed)
    for sign, kind in (("+", "added"), ("-", "removed")):
        for row in found[kind]["rows"]:
            say(f"{sign} {_line(row)}")
    for row in found["changed"]["rows"]:
        say(f"< {_line(row['before'])}")
        say(f"> {_line(row['after'])}")
    if any(found[kind]["count"] > len(found[kind]["rows"]) for kind in ("added", "removed", "changed")):
        note("Only the first rows of each kind are shown; --json has more ids")


def find(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Whole texts of rows.")] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="The id of a row; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find rows in all datasets by their text or id, and rows made of them."""
    with box() as client:
        found = client.find_rows(texts or [], ids=ids or [])
    if as_json:
        say_json(found)
        return
    say_table(
        ("DATASET", "SPLIT", "ID", "ROW"), [(r["dataset"], r["split"], r["id"], text_of(r)) for r in found["rows"]]
    )
    if not found["rows"]:
        note("No dataset has such a row. A row is found by its whole text, whatever its case and white space")
    elif found["count"] > len(found["rows"]):
        note(f"... and {found['count'] - len(found['rows']):,} more")


def _result(client: Client, process: Process, *, quiet: bool) -> Json:
    from llmos.cli.progress import follow

    return client.result(follow(client, process, quiet=quiet).pid)


def _line(row: Json) -> str:
    return f"{row['id']} {row['split']}: {text_of(row)}"


VERBS: dict[str, Any] = {
    "split": split,
    "merge": merge,
    "sample": sample,
    "diff": diff,
    "find": find,
}  # Any: verbs differ in what they take
