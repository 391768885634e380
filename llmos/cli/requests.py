"""requests: the request log, listed, shown, and erased by user."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from llmos.cli.client import box
from llmos.cli.terminal import note, say, say_json, say_table

STAGES = ("queue", "tokenize", "batch", "compute", "parse", "other", "total")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
app = typer.Typer(help="The request log: list, show, erase.", no_args_is_help=True)


@app.command()
def ls(
    model: Annotated[str | None, typer.Option(help="Only calls to this version, or this name.")] = None,
    user: Annotated[str | None, typer.Option(help="Only calls on behalf of this user.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only calls that ended so: ok, or an error's code.")] = None,
    day: Annotated[str | None, typer.Option(help="Only calls of this day (UTC): 2026-01-31.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List calls, without their texts."""
    with box() as client:
        found = client.requests(model=model, user=user, outcome=outcome, day=day, limit=limit)
    if as_json:
        say_json(found)
        return
    rows = [(one.id, _time(one.at), one.model, one.outcome, f"{one.seconds * 1000:.1f}", one.user) for one in found]
    say_table(("CALL", "AT", "MODEL", "OUTCOME", "MS", "USER"), rows)
    if not found:
        note("No such calls are logged. The log is off unless the daemon is started with --set request_log=all")


@app.command()
def show(call: Annotated[str, typer.Argument(help="The answer's x-request-id.")], as_json: AsJson = False) -> None:
    """Show one call, with its text where it was kept."""
    with box() as client:
        found = client.request(call)
    if as_json:
        say_json(found)
        return
    from llmos.abi.wire import to_plain

    for name, value in to_plain(found).items():
        say(f"{name:<18}{_time(value) if name == 'at' else '-' if value in (None, '') else value}")


@app.command()
def trace(call: Annotated[str, typer.Argument(help="The answer's x-request-id.")], as_json: AsJson = False) -> None:
    """Show how long each stage of a recent call took; the log need not be on."""
    with box() as client:
        found = client.call_trace(call)
    if as_json:
        say_json(found)
        return
    say(f"{found.id}  {found.model}  {found.task}  {found.outcome}  {_time(found.at)}")
    for stage in STAGES:
        say(f"  {stage:<10}{getattr(found, f'{stage}_ms'):>10.3f} ms")
    if found.stream_ms:
        say(f"  of these {found.stream_ms:.3f} ms from the first piece to the last")
    if found.trace_id:
        say(f"  trace {found.trace_id}, span {found.span_id} under {found.parent_id}")


@app.command()
def erase(
    user: Annotated[str, typer.Option(help="Whose calls are erased.")],
    as_json: AsJson = False,
) -> None:
    """Erase the calls of a user from the log and from memory."""
    with box() as client:
        erased = client.erase_requests(user)
    if as_json:
        say_json({"erased": erased})
        return
    say(f"Erased {erased:,} calls of {user}.")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="milliseconds")
