"""data import: makes a version of a dataset of labelled rows in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.cli.client import box, settings_of
from llmos.cli.recipe_options import (
    AsJson,
    ClassNames,
    Encoding,
    Format,
    Label,
    OnBadRow,
    Query,
    Set,
    Text,
    Wait,
    name_of,
)
from llmos.cli.sending import reachable_all
from llmos.cli.terminal import note, say

if TYPE_CHECKING:
    from llmos.abi.process import Process
    from llmos.sdk.client import Client


def import_rows(
    file: Annotated[str | None, typer.Argument(help="Labelled rows; beside --test, the training rows.")] = None,
    name: Annotated[str | None, typer.Option(help="The dataset's name (default: the file's name).")] = None,
    task: Annotated[str | None, typer.Option(help="The task, where the content does not decide it.")] = None,
    validation: Annotated[str | None, typer.Option(help="A file with the validation rows.")] = None,
    test: Annotated[str | None, typer.Option(help="A file with the test rows.")] = None,
    unlabelled: Annotated[str | None, typer.Option(help="A file with rows that have no labels yet.")] = None,
    text: Text = None,
    label: Label = None,
    format: Format = None,
    encoding: Encoding = None,
    query: Query = None,
    class_names: ClassNames = None,
    on_bad_row: OnBadRow = None,
    license: Annotated[str | None, typer.Option(help="The licence of the rows.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the rows are from.")] = None,
    group: Annotated[str | None, typer.Option(help="The column whose rows of one value no split parts.")] = None,
    time: Annotated[str | None, typer.Option(help="The column by which test rows are the latest.")] = None,
    pairs: Set = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Import rows as a version of a dataset."""
    read: dict[str, Any] = {  # Any: text, among other settings
        "text": text,
        "label": label,
        "format": format,
        "encoding": encoding,
        "query": query,
        "class_names": class_names,
        "on_bad_row": on_bad_row,
    }
    said: dict[str, Any] = {"license": license, "source": source, "group": group, "time": time}  # Any: as above
    if file is None and unlabelled is None:
        raise BadInput("Nothing to import. Name a file of labelled rows, or --unlabelled FILE", key="data")
    with box() as client:
        file, validation, test, unlabelled = reachable_all(client, file, validation, test, unlabelled, quiet=as_json)
        read |= {"validation": validation, "test": test, "unlabelled": unlabelled}
        named = name or name_of(str(file or unlabelled))
        process = client.import_dataset(
            file or "", name=named, task=task, options=settings_of(pairs or []), wait=False, **said, **read
        )
        finish(client, process, wait=wait, as_json=as_json)


def finish(client: Client, process: Process, *, wait: bool, as_json: bool) -> None:
    """Wait for an operation on datasets, and print what it made."""
    from llmos.cli.progress import follow_or_say

    if (ended := follow_or_say(client, process, wait=wait, as_json=as_json)) is not None:
        say(ended.progress.message if ended.progress and ended.progress.message else ended.reason)
        for ref in ended.made:
            for one in client.dataset(ref).notes:
                note(one)


VERBS: dict[str, Any] = {"import": import_rows}  # Any: verbs differ in what they take
