"""tune, leaderboard: searches the settings of a training run, and shows how the search stands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput, NotFound
from llmos.cli.client import box
from llmos.cli.recipe_options import (
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
from llmos.cli.terminal import INTERRUPTED, note, say, say_json, say_table, span

if TYPE_CHECKING:
    from rich.table import Table

    from llmos.abi.process import Process
    from llmos.abi.tuning import Leaderboard, TrialRow
    from llmos.sdk.client import Client

SETTINGS = ("method", "learning_rate", "epochs", "batch_size", "rank", "head_rate_ratio", "pooling", "augment")


def tune(
    ctx: typer.Context,
    task: TaskName,
    data: Rows,
    budget: Annotated[
        str | None, typer.Option(help="A time (15m, 1h30m) or a number of trials (default: 24 trials).")
    ] = None,
    name: Name = None,
    base: Base = None,
    validation: Annotated[
        str | None, typer.Option(help="Rows that trials are compared on (default: part of --data).")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Rows that only the winner is measured on (default: part of --data).")
    ] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Methods to try, separated by commas (default: full, lora, head).")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="quasi-random, random or tpe (default: tpe where optuna is installed).")
    ] = None,
    seed: Seed = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = None,
    text: Text = None,
    label: Label = None,
    format: Format = None,
    encoding: Encoding = None,
    query: Query = None,
    class_names: ClassNames = None,
    on_bad_row: OnBadRow = None,
    min_metric: MinMetric = None,
    device: On = None,
    augment: Annotated[
        str | None, typer.Option(help="Changed copies of rows, such as swap,delete: trials with and without.")
    ] = None,
    pairs: Set = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Search the settings of a training run in a budget, and train the best of them into a version."""
    settings: dict[str, Any] = recipe_settings(ctx, SHARED, pairs)  # Any: the values differ in type
    with box() as client:
        data = reachable(client, data, quiet=as_json)
        validation, test = reachable_all(client, validation, test, quiet=as_json)
        settings |= {"validation": validation, "test": test}
        process = client.tune(
            task,
            data=data,
            name=name or name_of(data),
            budget=budget,
            base=base,
            methods=[one.strip() for one in methods.split(",")] if methods else None,
            sampler=sampler,
            device=device,
            wait=False,
            **settings,
        )
        if not wait:
            _say_begun(process, as_json=as_json)
            return
        _follow(client, process, quiet=as_json)
        _say_board(client, process.pid, as_json=as_json)


def leaderboard(
    pid: Annotated[int, typer.Argument(metavar="PID", help="The search's pid, as `llmos ps` shows it.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show it until the search has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the trials of a search, best first."""
    with box() as client:
        process = client.process(pid)
        if process.spec.program != "tune":
            raise BadInput(f"Process {pid} runs {process.spec.program}, no search of settings. See: llmos ps", pid=pid)
        if follow:
            _follow(client, process, quiet=as_json)
        _say_board(client, pid, as_json=as_json)


def _say_begun(process: Process, *, as_json: bool) -> None:
    if as_json:
        from llmos.abi.api_types import process_json

        say_json(process_json(process))
        return
    say(str(process.pid))
    note(f"{process.spec.title} runs as pid {process.pid}. See it: llmos leaderboard -f {process.pid}")


def _follow(client: Client, process: Process, *, quiet: bool) -> None:
    """Wait for the search; its error is raised."""
    pid = process.pid
    try:
        with _live(client, pid) if sys.stderr.isatty() and not quiet else _lines(quiet=quiet) as show:
            client.wait(pid, on_progress=show)
    except KeyboardInterrupt:
        note(f"\npid {pid} goes on. Come back: llmos leaderboard -f {pid}. Stop it: llmos kill {pid}")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _lines(*, quiet: bool) -> Iterator[Callable[[Process], None]]:
    """A line for each rung that is reached."""
    shown: list[str] = []

    def show(process: Process) -> None:
        progress = process.progress
        if quiet or progress is None:
            return
        best = f", best {progress.figures['metric']:.4f}" if "metric" in progress.figures else ""
        line = f"pid {process.pid}: {progress.phase} {progress.done:.0f}/{progress.total:.0f} {progress.unit}{best}"
        if line not in shown[-1:]:
            shown.append(line)
            note(line)

    yield show


@contextmanager
def _live(client: Client, pid: int) -> Iterator[Callable[[Process], None]]:
    """The leaderboard as a table that changes in place."""
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:

        def show(process: Process) -> None:
            try:
                live.update(_table(client.leaderboard(pid)), refresh=True)
            except NotFound:  # it has not begun
                return

        yield show


def _table(board: Leaderboard) -> Table:
    from rich.table import Table

    head, rows = table_of(board)
    table = Table(*head, box=None, title=f"{board.name}: {board.budget}, {span(board.spent_s)} spent")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def table_of(board: Leaderboard) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The head and rows of the leaderboard: a column for each rung and for each setting that a trial has."""
    names = [name for name in SETTINGS if any(name in row.settings for row in board.trials)]
    shares = [f"{100 * share:.0f} %" for share in board.shares]
    head = ("TRIAL", "PID", "STATE", *shares, *(name.upper().replace("_", " ") for name in names), "TIME", "NOTE")
    return head, [_cells(board, row, names) for row in board.trials]


def _cells(board: Leaderboard, row: TrialRow, names: list[str]) -> tuple[object, ...]:
    metrics = [f"{one:.4f}" for one in row.metrics] + [""] * (len(board.shares) - len(row.metrics))
    notes = ("defaults" if row.is_default else "", row.note)
    settings = [_value(row.settings.get(name)) for name in names]
    state = "winner" if row.number == board.winner else row.state
    return (row.number, row.pid or "", state, *metrics, *settings, span(row.seconds), "; ".join(filter(None, notes)))


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say_board(client: Client, pid: int, *, as_json: bool) -> None:
    board = client.leaderboard(pid)
    if as_json:
        say_json(board)
        return
    say_table(*table_of(board))
    if board.importances:
        said = ", ".join(f"{name.replace('_', ' ')} {share:.2f}" for name, share in board.importances.items())
        say(f"Importance for {board.metric} at the first rung: {said}")
    if board.summary:
        say(board.summary)
    if board.made:
        say(f"How good it is: llmos show {board.made}")
        say(f"Report: {client.url}/v1/processes/{pid}/report")


COMMANDS = {"tune": TrainCommand}
VERBS: dict[str, Any] = {"tune": tune, "leaderboard": leaderboard}  # Any: verbs differ in what they take
