"""data upload, uploads: files of this machine that are sent to the daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.cli.client import box
from llmos.cli.sending import send
from llmos.cli.terminal import note, say, say_json, say_table, size, span

if TYPE_CHECKING:
    from llmos.abi.upload import Upload

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def upload(
    file: Annotated[str, typer.Argument(help="A file of this machine.")],
    name: Annotated[str | None, typer.Option(help="What it is called there (default: the file's name).")] = None,
    as_json: AsJson = False,
) -> None:
    """Send a file to the daemon, or the rest of one that was interrupted."""
    with box() as client:
        sent = send(client, file, name=name, quiet=as_json)
    if as_json:
        say_json(_plain(sent))
        return
    say(sent.ref)
    note(f"Name it where a file of rows may be named: llmos data import {sent.ref}")


def uploads(
    rm: Annotated[list[str] | None, typer.Option("--rm", help="Remove this one (upload:ID); may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the files that were sent, or remove some."""
    with box() as client:
        removed = [gone for ref in rm or () for gone in client.remove_upload(ref)]
        there = client.uploads()
    if as_json:
        say_json({"removed": removed} if rm else [_plain(one) for one in there])
        return
    for gone in removed:
        say(f"removed {gone}")
    if rm:
        return
    rows = [(one.ref, one.name, size(one.size_bytes), _state(one), _kept_for(one)) for one in there]
    say_table(("UPLOAD", "NAME", "SIZE", "THERE", "KEPT FOR"), rows)
    if not there:
        note("Nothing was sent. Send a file: llmos data upload FILE")


def _state(one: Upload) -> str:
    return "all" if one.is_complete else f"{one.offset / one.size_bytes:.0%}"


def _kept_for(one: Upload) -> str:
    if one.purpose and not one.expires_at:
        return "ever"
    return span(max(0.0, one.expires_at - time.time()))


def _plain(one: Upload) -> dict[str, Any]:  # Any: its fields
    from llmos.abi.wire import to_plain

    return {"ref": one.ref, "is_complete": one.is_complete, **to_plain(one)}


VERBS: dict[str, Any] = {"upload": upload, "uploads": uploads}  # Any: verbs differ in what they take
