"""Shows progress while a verb waits: a bar on a terminal, else lines. Ctrl-C ends only the waiting."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from llmos.abi.process import DONE, Process, Progress
from llmos.cli.terminal import INTERRUPTED, note, number, say, say_json, size, span

if TYPE_CHECKING:
    from llmos.sdk.client import Client

Show = Callable[[Process], None]


def follow(client: Client, process: Process, *, quiet: bool) -> Process:
    """Wait for a process and return it; its error is raised. Ctrl-C ends the waiting and prints how to come back."""
    try:
        with _quiet() if quiet else bar() if sys.stderr.isatty() else lines() as show:
            return client.wait(process.pid, on_progress=show)
    except KeyboardInterrupt:
        pid = process.pid
        note(f"\npid {pid} goes on. Come back: llmos logs -f {pid}. See it: llmos ps. Stop it: llmos kill {pid}")
        raise typer.Exit(INTERRUPTED) from None


def follow_or_say(client: Client, process: Process, *, wait: bool, as_json: bool) -> Process | None:
    """The ended process, whose outcome the verb prints; None where it is printed here: as JSON, or not waited for."""
    if wait:
        process = follow(client, process, quiet=as_json)
    if as_json:
        from llmos.abi.api_types import process_json

        say_json(process_json(process))
        return None
    if wait:
        return process
    say(str(process.pid))
    note(f"{process.spec.title} runs as pid {process.pid}. Follow it: llmos logs -f {process.pid}")
    return None


@contextmanager
def _quiet() -> Iterator[Show]:
    yield lambda process: None


@contextmanager
def lines() -> Iterator[Show]:
    """Print a line when the phase or the state changes."""
    shown: list[str] = []

    def show(process: Process) -> None:
        text = process.progress.phase if process.progress else str(process.state)
        if text not in shown[-1:]:
            shown.append(text)
            note(f"pid {process.pid}: {text}")
        if (found := found_by(process.progress)) not in ("", *shown):
            shown.append(found)
            shown.append(text)
            note(f"pid {process.pid}: {found}")

    yield show


@contextmanager
def bar() -> Iterator[Show]:
    """Show a bar with figures."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("queued", total=None, text="")
        shown: set[str] = set()

        def show(process: Process) -> None:
            progress = process.progress
            if progress is None:
                bars.update(task, description=str(process.state), text=process.reason)
                return
            if (found := found_by(progress)) and found not in shown:
                shown.add(found)
                bars.console.print(found, markup=False, highlight=False)
            total = progress.total or None
            bars.update(task, description=progress.phase, completed=progress.done, total=total, text=figures(progress))

        yield show


def found_by(progress: Progress | None) -> str:
    """The result of a phase that counts nothing, printed at its end; the last phase has its own message."""
    if progress is None or progress.phase == DONE or progress.unit or not 0 < progress.total <= progress.done:
        return ""
    return progress.message


def figures(progress: Progress) -> str:
    """The figures of a progress for people: how far, how fast, how long still."""
    is_bytes = progress.unit == "bytes"
    parts = []
    if progress.total:
        done, total = (size(progress.done), size(progress.total)) if is_bytes else (progress.done, progress.total)
        parts.append(f"{done}/{total}" if is_bytes else f"{done:.0f}/{total:.0f} {progress.unit}".rstrip())
    for key, value in progress.figures.items():
        if key == "eta_s":
            parts.append(f"{span(value)} left")
        elif key == "rate":
            parts.append(f"{size(value)}/s" if is_bytes else f"{value:.0f}/s")
        else:
            parts.append(f"{key} {number(value)}")
    return "  ".join(parts)
