"""The options that the verbs which train share: the task and its rows, how these are read, and settings of a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from llmos.abi.json_type import Json
from llmos.cli.client import settings_of
from llmos.cli.task_options import TASKS, declared_settings

Set = Annotated[list[str] | None, typer.Option("--set", help="Any other setting, as key=value; may be repeated.")]
Wait = Annotated[bool, typer.Option(help="Wait until the process has ended.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Text = Annotated[str | None, typer.Option("--text", help="The column with the text, by name or number.")]
Label = Annotated[str | None, typer.Option("--label", help="The column with the label, by name or number.")]
On = Annotated[str | None, typer.Option("--device", help="The device to compute on, as `llmos status` shows it.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="What the file is, if its content does not tell: csv, json, excel, sqlite ..."),
]
Encoding = Annotated[str | None, typer.Option("--encoding", help="The encoding of a text file (default: detected).")]
Query = Annotated[str | None, typer.Option("--query", help="One SELECT, to read rows from an SQLite file.")]
ClassNames = Annotated[
    str | None, typer.Option("--class-names", help="What the labels 0, 1, 2 ... are called, separated by commas.")
]
OnBadRow = Annotated[
    str | None, typer.Option("--on-bad-row", help="stop (list all bad rows, the default) or skip (leave them out).")
]
READING = ("text", "label", "format", "encoding", "query", "class_names", "on_bad_row")
Name = Annotated[str | None, typer.Option(help="The model's name (default: the file's name).")]
Base = Annotated[str | None, typer.Option(help="The base to fine-tune (default: minilm; smollm2 to generate).")]
Rows = Annotated[str, typer.Option(help="Labelled rows: a file, or a dataset (name@version).")]
TaskName = Annotated[str, typer.Argument(help=f"{TASKS}.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the rows.")]
LearningRate = Annotated[float | None, typer.Option(help="The encoder's learning rate.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples per optimizer step.")]
Seed = Annotated[int | None, typer.Option(help="The random seed.")]
MinMetric = Annotated[float | None, typer.Option(help="Promote nothing below this.")]
SHARED = (*READING, "epochs", "learning_rate", "batch_size", "seed", "min_metric", "augment")


def recipe_settings(ctx: typer.Context, names: Sequence[str], pairs: Sequence[str] | None) -> dict[str, Json]:
    """The recipe's settings among a verb's options: those of these names, the task's own, and the pairs of `--set`."""
    given = {name: ctx.params[name] for name in names}
    return {**given, **declared_settings(ctx), **settings_of(pairs or [])}


def name_of(data: str) -> str:
    """A model name made from the data's file name."""
    stem = data.replace("\\", "/").rsplit("/", 1)[-1].partition(".")[0].partition("@")[0]
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("._-") or "model"
