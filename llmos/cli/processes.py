"""ps, top, logs, kill, nice, suspend, resume: shows and controls processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from llmos.abi.method import has_own_weights, is_on_base
from llmos.abi.process import SERVING
from llmos.cli.client import box
from llmos.cli.terminal import age, note, say, say_json, say_table, size, span

if TYPE_CHECKING:
    from rich.console import Group

    from llmos.abi.api_types import Model
    from llmos.abi.process import Process
    from llmos.sdk.client import Client

TOP_EVERY_S = 1.0
SERVE = "serve"
HEAD = ("PID", "PROGRAM", "STATE", "PRIORITY", "METHOD", "PROGRESS", "CPU", "MEMORY", "AGE", "TITLE")

Pid = Annotated[int, typer.Argument(metavar="PID", help="The process's pid, as `llmos ps` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Include ended processes.")] = False,
    as_json: AsJson = False,
) -> None:
    """List processes."""
    with box() as client:
        shown = [p for p in client.processes() if everything or p.state != "exited"]
        if as_json:
            from llmos.abi.api_types import process_json

            say_json([process_json(process) for process in shown])
            return
        say_table(HEAD, rows(shown, _attached_models(client, shown)))


def _attached_models(client: Client, processes: Iterable[Process]) -> list[Model]:
    """The models that processes here have attached; asked only if one of them serves."""
    if not any(_serves(p) and not p.is_ended for p in processes):
        return []
    return [model for model in client.models() if model.attached]


def rows(processes: Iterable[Process], served: Sequence[Model] = ()) -> list[tuple[object, ...]]:
    """One row of the table per process; `served` are the models that are attached to any."""
    return [
        (
            p.pid,
            p.spec.program,
            _state(p),
            p.spec.priority,
            _how_served(p, served) if _serves(p) else _method(p),
            _progress(p),
            span(p.usage.cpu_s),
            size(p.usage.rss_bytes) if p.usage.rss_bytes else "",
            age(p.started_at or p.created_at),
            f"{p.spec.title}{f' ({p.reason})' if p.reason else ''}",
        )
        for p in processes
    ]


def _method(process: Process) -> str:
    """What a trainer trains by: `auto` until it has chosen, then the method, with `auto` beside it."""
    method = process.spec.args.get("method") or ""
    return f"{method} (auto)" if process.spec.args.get("method_why") else str(method)


def _serves(process: Process) -> bool:
    return process.spec.program == SERVE


def _how_served(process: Process, served: Iterable[Model]) -> str:
    """How many models a serve process has in one batch on its base, and how many with weights of their own."""
    if process.is_ended:
        return ""
    mine = [model for model in served if process.spec.args.get("base") in (model.base, model.ref)]
    alone = sum(has_own_weights(model.method) for model in mine)
    mixed = sum(is_on_base(model.method) for model in mine)
    return ", ".join([f"{mixed} mixed"] * (mixed > 0) + [f"{alone} alone"] * (alone > 0))


def _state(process: Process) -> str:
    if process.unresponsive_since is not None:
        return f"{process.state}, not responding for {age(process.unresponsive_since)}"
    if process.state != "exited":
        return str(process.state)
    return f"exited {process.exit_code}" if process.exit_code is not None else "exited"


def _progress(process: Process) -> str:
    progress = process.progress
    if progress is None:
        return ""
    if progress.phase == SERVING:
        return "" if process.is_ended else _load(progress.figures)
    return f"{progress.phase} {progress.done / progress.total:.0%}" if progress.total else progress.phase


def _load(figures: Mapping[str, float]) -> str:
    """The load of a process: running and waiting answers and, if reported, KV cache use and prefix cache hit rate."""
    if "live" not in figures:
        return ""
    waits = f", {figures['waiting']:.0f} wait" if figures.get("waiting") else ""
    kv = f", kv {figures['kv_held'] / max(figures['kv_blocks'], 1):.0%}" if "kv_held" in figures else ""
    hits = f", {figures['prefix_hit_rate']:.0%} found" if figures.get("prefix_hit_rate") else ""
    return f"{figures['live']:.0f} live{waits}{kv}{hits}"


def top() -> None:
    """Watch devices and processes; Ctrl-C leaves."""
    with box() as client:
        if not sys.stdout.isatty():
            shown = [p for p in client.processes() if not p.is_ended]
            say_table(HEAD, rows(shown, _attached_models(client, shown)))
            return
        from rich.live import Live

        with Live(_view(client), screen=True, auto_refresh=False) as live:
            while True:
                live.update(_view(client), refresh=True)
                time.sleep(TOP_EVERY_S)


def _view(client: Client) -> Group:
    from rich.console import Group
    from rich.table import Table

    table, status = Table(*HEAD, box=None, expand=True), client.status()
    shown = [p for p in client.processes() if not p.is_ended]
    for row in rows(shown, _attached_models(client, shown)):
        table.add_row(*map(str, row))
    free = ", ".join(f"{name} {size(number)} free" for name, number in status.free_bytes.items())
    return Group(f"llmos {status.version}  calls in flight {status.in_flight}  {free}\n", table)


def logs(
    pid: Pid,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines as they come.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=1, help="Print only this many last lines.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the log of a process."""
    with box() as client:
        if not follow:
            text = client.logs(pid, tail=tail)
            if as_json:
                say_json({"pid": pid, "lines": text.splitlines()})
            else:
                sys.stdout.write(text)
                if not text:
                    note(f"pid {pid} has written nothing: it is {client.process(pid).state}. See: llmos ps")
            return
        for line in _follow_lines(client, pid, tail):
            sys.stdout.write(msgspec.json.encode({"line": line.rstrip("\n")}).decode() + "\n" if as_json else line)
            sys.stdout.flush()


def _follow_lines(client: Client, pid: int, tail: int | None) -> Iterator[str]:
    """The log's lines as they come, from the start or from its last `tail` lines."""
    held = ""
    for piece in client.follow(pid, tail=tail):
        *whole, held = (held + piece).split("\n")
        yield from (f"{line}\n" for line in whole)
    if held:
        yield held


def kill(
    pid: Pid,
    force: Annotated[bool, typer.Option("--force", help="End it at once, without a checkpoint.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop a process, or give up an interrupted one."""
    with box() as client:
        _say(client.kill(pid, force=force), as_json=as_json)


def suspend(pid: Pid, as_json: AsJson = False) -> None:
    """Pause a process."""
    with box() as client:
        _say(client.suspend(pid), as_json=as_json)


def resume(pid: Pid, as_json: AsJson = False) -> None:
    """Continue a process, an interrupted one from its checkpoint."""
    with box() as client:
        _say(client.resume(pid), as_json=as_json)


def nice(
    pid: Pid,
    priority: Annotated[str, typer.Argument(metavar="PRIORITY", help="interactive, batch or background.")],
    as_json: AsJson = False,
) -> None:
    """Change the priority of a process."""
    with box() as client:
        _say(client.nice(pid, priority), as_json=as_json)


def _say(process: Process, *, as_json: bool) -> None:
    if as_json:
        from llmos.abi.api_types import process_json

        say_json(process_json(process))
        return
    reason = f": {process.reason}" if process.reason else ""
    say(f"pid {process.pid} ({process.spec.title or process.spec.program}) is {_state(process)}{reason}")


VERBS: dict[str, Any] = {  # Any: verbs differ in what they take
    "ps": ps,
    "top": top,
    "logs": logs,
    "kill": kill,
    "nice": nice,
    "suspend": suspend,
    "resume": resume,
}
