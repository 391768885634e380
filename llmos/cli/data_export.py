"""data export: a dataset's rows as a file that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.cli.client import box
from llmos.cli.data_versions import DatasetRef
from llmos.cli.recipe_options import AsJson
from llmos.cli.terminal import note, say, say_json

if TYPE_CHECKING:
    from llmos.abi.json_type import Json


def export(
    ref: DatasetRef,
    format: Annotated[str, typer.Option("--format", help="jsonl, csv, conll, squad, label-studio ...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    split: Annotated[str | None, typer.Option(help="train, validation, test or all.")] = None,
    scheme: Annotated[str | None, typer.Option(help="Of tags in conll, conllu: iob2 (the default) or bioes.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset's rows to a file of another format."""
    from llmos.cli.progress import follow
    from llmos.sdk.receiving import export_target

    with box() as client:
        export_target(out, overwrite=force)
        args: dict[str, Json] = {"format": format, "split": split, "scheme": scheme}
        process = follow(client, client.operate_dataset(ref, "export", wait=False, **args), quiet=as_json)
        made = client.fetch_export(process.pid, out, overwrite=force)
    if as_json:
        say_json(made)
        return
    say(f"{made['path']}: {made['rows']:,} rows as {made['format']}")
    if made["loses"]:
        note(f"It does not carry {made['loses']}")


VERBS: dict[str, Any] = {"export": export}  # Any: verbs differ in what they take
