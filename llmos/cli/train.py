"""train, eval, quantize, shrink: makes versions from labelled rows, and measures them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.cli.client import box, settings_of
from llmos.cli.models import bounds_of
from llmos.cli.recipe_options import (
    READING,
    SHARED,
    AsJson,
    Base,
    BatchSize,
    ClassNames,
    Encoding,
    Epochs,
    Format,
    Label,
    LearningRate,
    MinMetric,
    Name,
    On,
    OnBadRow,
    Query,
    Rows,
    Seed,
    Set,
    TaskName,
    Text,
    Wait,
    name_of,
    recipe_settings,
)
from llmos.cli.sending import reachable, reachable_all
from llmos.cli.task_options import TrainCommand
from llmos.cli.terminal import say, say_metrics

if TYPE_CHECKING:
    from llmos.abi.process import Process
    from llmos.sdk.client import Client

OWN = (
    "teacher",
    "method",
    "base_dtype",
    "serve_dtype",
    "max_drop",
    "schedule",
    "patience",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "augment_copies",
    "augment_share",
    "augment_strength",
    "balance",
)
MaxDrop = Annotated[float | None, typer.Option("--max-drop", help="The most that int8 may lose (default 0.01).")]


def train(
    ctx: typer.Context,
    task: TaskName,
    data: Rows,
    name: Name = None,
    base: Base = None,
    validation: Annotated[
        str | None, typer.Option(help="Rows that choose the best epoch (default: part of --data).")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Rows to measure on (default: part of --data).")] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Whose answers are learned too: a model, or an address such as http://host:8000/v1#model."),
    ] = None,
    unlabelled: Annotated[str | None, typer.Option(help="Rows without labels or answers, to learn from too.")] = None,
    method: Annotated[
        str | None, typer.Option(help="What is trained: auto (the default), lora, full, head ... (docs/methods.md).")
    ] = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    text: Text = None,
    label: Label = None,
    format: Format = None,
    encoding: Encoding = None,
    query: Query = None,
    class_names: ClassNames = None,
    on_bad_row: OnBadRow = None,
    base_dtype: Annotated[
        str | None, typer.Option(help="int4, int8 or bfloat16: keep a frozen base smaller while an adapter is trained.")
    ] = None,
    min_metric: MinMetric = None,
    serve_dtype: Annotated[str | None, typer.Option(help="int8: also make a version that is served in int8.")] = None,
    max_drop: MaxDrop = None,
    schedule: Annotated[str | None, typer.Option(help="The learning rate's schedule: linear or cosine.")] = None,
    patience: Annotated[int | None, typer.Option(help="Early stopping: epochs without improvement.")] = None,
    lora_rank: Annotated[int | None, typer.Option(help="LoRA's rank.")] = None,
    lora_alpha: Annotated[int | None, typer.Option(help="LoRA's scale (alpha).")] = None,
    lora_dropout: Annotated[float | None, typer.Option(help="LoRA's dropout.")] = None,
    device: On = None,
    augment: Annotated[
        str | None,
        typer.Option(help="Changed copies of rows, such as swap,delete; auto: what helps."),
    ] = None,
    augment_copies: Annotated[int | None, typer.Option(help="Copies of each of these rows (default: 1).")] = None,
    augment_share: Annotated[float | None, typer.Option(help="Share of the rows that are copied (default: 1).")] = None,
    augment_strength: Annotated[float | None, typer.Option(help="Share of words changed (default: 0.1).")] = None,
    balance: Annotated[bool | None, typer.Option(help="As many rows of every label, by copies.")] = None,
    pairs: Set = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a base on labelled rows, and promote the version if it is good enough."""
    settings = recipe_settings(ctx, (*SHARED, *OWN), pairs)
    with box() as client:
        data, (validation, test, unlabelled) = (
            reachable(client, data, quiet=as_json),
            reachable_all(client, validation, test, unlabelled, quiet=as_json),
        )
        settings = {"validation": validation, "test": test, "unlabelled": unlabelled, **settings}
        called = name or name_of(data)
        process = client.train(task, data=data, name=called, base=base, device=device, wait=False, **settings)
        _finish(client, process, wait=wait, as_json=as_json)


def evaluate(
    model: Annotated[str, typer.Argument(help="A name (its promoted version), or name:version.")],
    data: Annotated[str, typer.Option(help="Labelled rows: a file, or a dataset (name@version).")],
    task: Annotated[str | None, typer.Option(help="For a generative base: the task to measure.")] = None,
    text: Text = None,
    label: Label = None,
    format: Format = None,
    encoding: Encoding = None,
    query: Query = None,
    class_names: ClassNames = None,
    on_bad_row: OnBadRow = None,
    device: On = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or int8 (default: what it is served in).")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="The engine that answers: pytorch, llamacpp or onnx (default: its own).")
    ] = None,
    pairs: Set = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled rows."""
    with box() as client:
        read: dict[str, Any] = _reading(text, label, format, encoding, query, class_names, on_bad_row)
        what: dict[str, Any] = {"task": task, "options": settings_of(pairs or [])}  # Any: the values differ in type
        data = reachable(client, data, quiet=as_json)
        process = client.evaluate(
            model, data=data, device=device, dtype=dtype, engine=engine, wait=False, **what, **read
        )
        _finish(client, process, wait=wait, as_json=as_json)


def quantize(
    model: Annotated[str, typer.Argument(help="A model or a base: a name (its promoted version), or name:version.")],
    data: Annotated[str | None, typer.Option(help="Rows to measure on (default: the model's own test rows).")] = None,
    max_drop: MaxDrop = None,
    text: Text = None,
    label: Label = None,
    format: Format = None,
    encoding: Encoding = None,
    query: Query = None,
    class_names: ClassNames = None,
    on_bad_row: OnBadRow = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Make an int8 version, if it loses little; its evidence says how much."""
    with box() as client:
        read: dict[str, Any] = _reading(text, label, format, encoding, query, class_names, on_bad_row)
        data = None if data is None else reachable(client, data, quiet=as_json)
        process = client.quantize(model, data=data, max_drop=max_drop, wait=False, **read)
        _finish(client, process, wait=wait, as_json=as_json)


def shrink(
    base: Annotated[str, typer.Argument(help="A base: a name, or name:version.")],
    layers: Annotated[
        str | None, typer.Option(help="How many of its layers to keep, such as 3, or which, such as 0,2,4.")
    ] = None,
    static: Annotated[bool, typer.Option("--static", help="Keep only a table of its tokens' vectors.")] = False,
    dimensions: Annotated[int | None, typer.Option(help="Of a table: the length of a vector (default 256).")] = None,
    neighbours: Annotated[
        int | None, typer.Option(help="Of a table: the tokens on each side that a vector also sees (default 0).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The new base's name (default: BASE-3-layers, BASE-static).")] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Make a smaller base, for models that are distilled into it."""
    from llmos.cli.progress import follow_or_say

    with box() as client:
        process = client.shrink(
            base, layers=layers, static=static, dimensions=dimensions, neighbours=neighbours, name=name, wait=False
        )
        ended = follow_or_say(client, process, wait=wait, as_json=as_json)
    if ended is not None:
        say(ended.progress.message if ended.progress is not None else ended.reason)


def _reading(*values: str | None) -> dict[str, str | None]:
    """How rows are read, by the names of the settings, from the values of these options in their order."""
    return dict(zip(READING, values, strict=True))


def _finish(client: Client, process: Process, *, wait: bool, as_json: bool) -> None:
    from llmos.cli.progress import follow_or_say

    if (ended := follow_or_say(client, process, wait=wait, as_json=as_json)) is not None:
        _say_made(client, ended)


def _say_made(client: Client, process: Process) -> None:
    made = [ref for ref in process.made if ":" in ref]
    for ref in made:
        model = client.model(ref)
        say(f"{ref} is {'promoted' if model.promoted else 'a candidate'}. {process.reason}".rstrip())
        _say_figures(model.metrics, bounds_of(model))
        say(f"Ask it: llmos run {ref if not model.promoted else model.name} '...'")
        say(f"How good it is: llmos show {ref}")
    if not made and process.progress is not None:
        say(process.progress.message or process.reason)
        _say_figures(process.progress.figures, process.progress.intervals)


def _say_figures(figures: Mapping[str, object], intervals: Mapping[str, tuple[float, float]]) -> None:
    if figures:
        say_metrics(figures, intervals)


COMMANDS = {"train": TrainCommand}
VERBS: dict[str, Any] = {
    "train": train,
    "eval": evaluate,
    "quantize": quantize,
    "shrink": shrink,
}  # Any: verbs differ in what they take
