"""Sends files to the daemon: with a bar on a terminal, and by itself where the daemon is on another machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmos.abi.error import BadInput
from llmos.abi.row_path import split_part
from llmos.abi.upload import is_upload, upload_id, with_name
from llmos.cli.terminal import INTERRUPTED, note, size

if TYPE_CHECKING:
    from llmos.abi.upload import Upload
    from llmos.sdk.client import Client

Show = Callable[["Upload"], None]


def reachable(client: Client, source: str, *, quiet: bool = False) -> str:
    """The source as the daemon can read it: a file of this machine is first sent to a daemon on another.

    An uploaded file gets its own name beside its id.
    """
    if is_upload(source):
        found = [one for one in client.uploads() if one.id == upload_id(source)]
        return with_name(source, found[0]) if found else source
    path, part = split_part(os.path.expanduser(source))
    if not os.path.exists(path) or is_here(client):
        return source
    if os.path.isdir(path):
        raise BadInput(
            f"{path} is a folder, and the daemon at {client.url} is on another machine. Give one of its files",
            file=path,
            reason="folder",
        )
    ref = send(client, path, quiet=quiet).path
    return f"{ref}:{part}" if part else ref


def reachable_all(client: Client, *sources: str | None, quiet: bool = False) -> tuple[str | None, ...]:
    """The same of several sources, of which some may be missing."""
    return tuple(None if one is None else reachable(client, one, quiet=quiet) for one in sources)


def is_here(client: Client) -> bool:
    """Whether the daemon runs on this machine, so that it can read the files that are here."""
    from llmos.config import read_config
    from llmos.sdk.transport import announcement

    if announcement(read_config().home).get("url") == client.url:
        return True
    status = client.status()  # of another home: what its daemon wrote down can be read on its machine alone
    return announcement(Path(status.home)).get("os_pid") == status.os_pid


def send(client: Client, path: str, *, name: str | None = None, quiet: bool = False) -> Upload:
    """Send a file. Ctrl-C ends it and prints how to go on."""
    try:
        with _quiet() if quiet else _bar() if sys.stderr.isatty() else _lines() as show:
            return client.upload(path, name=name, on_progress=show)
    except KeyboardInterrupt:
        note(f"\nNot all of {path} is sent. Go on where it ended: llmos data upload {path}")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _quiet() -> Iterator[Show]:
    yield lambda upload: None


@contextmanager
def _lines() -> Iterator[Show]:
    """Print a line at the start and at the end."""
    shown: list[str] = []

    def show(upload: Upload) -> None:
        if not shown:
            rest = f", of which {size(upload.offset)} are there" if 0 < upload.offset < upload.size_bytes else ""
            shown.append("start")
            note(f"{upload.name}: {size(upload.size_bytes)}{rest}")
        if upload.is_complete:
            note(f"{upload.name} is there: {upload.ref}")

    yield show


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("reading", total=None)

        def show(upload: Upload) -> None:
            bars.update(task, description=upload.name, total=max(1, upload.size_bytes), completed=upload.offset)

        yield show
