"""audit ls, verify: who has changed what. They work without a daemon, too."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from llmos.abi.audit import AuditEntry, AuditFilter, AuditReport
from llmos.cli.client import box
from llmos.cli.daemon import running
from llmos.cli.keys import seconds_in
from llmos.cli.terminal import note, say, say_json, say_table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
app = typer.Typer(help="The audit log: list, verify.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _ls_by_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        ls()


@app.command()
def ls(
    who: Annotated[str | None, typer.Option(help="Only by this: a key's id, local, or daemon.")] = None,
    what: Annotated[str, typer.Option(help="Only routes and commands that contain this.")] = "",
    ref: Annotated[str, typer.Option(help="Only what was done to something whose name contains this.")] = "",
    since: Annotated[str | None, typer.Option(help="Only of the last 90m, 12h, 30d.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List who has changed what, the newest first."""
    found = _entries(who, what, ref, None if since is None else seconds_in(since), limit)
    if as_json:
        say_json(found)
        return
    rows = [
        (str(one.seq), _time(one.at), one.who or "-", one.what, one.ref, one.origin or "-", one.outcome)
        for one in found
    ]
    say_table(("SEQ", "AT", "WHO", "WHAT", "REF", "FROM", "OUTCOME"), rows)
    if not found:
        note("There is no such entry. Calls to models are none: see llmos requests and llmos usage")


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Check every entry, their order and the log's end; exit code 1 if something is not as it was written."""
    found = _report()
    if as_json:
        say_json(found)
    else:
        for finding in found.findings:
            say(finding)
        if found.unfinished_bytes:
            note(f"{found.unfinished_bytes:,} bytes at the end are of a write that a crash broke off. A start mends it")
        is_whole = "are as they were written" if not found.findings else "were read"
        say(f"{found.entries:,} entries ({found.first} to {found.last}) {is_whole}.")
    if found.findings:
        raise typer.Exit(1)


def _entries(who: str | None, what: str, ref: str, within_s: int | None, limit: int) -> list[AuditEntry]:
    from llmos.config import read_config

    config = read_config()
    if running() or config.api_key:
        with box() as client:
            return client.audit(who=who, what=what, ref=ref, within_s=within_s, limit=limit)
    import time

    from llmos.daemon import audit_of

    since = 0.0 if within_s is None else time.time() - within_s
    return audit_of(config.home).find(AuditFilter(who, what, ref, since, limit))


def _report() -> AuditReport:
    from llmos.config import read_config

    config = read_config()
    if running() or config.api_key:
        with box() as client:
            return client.verify_audit()
    from llmos.daemon import audit_of

    return audit_of(config.home).verify()


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")
