"""batch: the requests of a file, answered behind live calls into another file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput
from llmos.cli.client import box
from llmos.cli.sending import send
from llmos.cli.terminal import note, say, say_json

if TYPE_CHECKING:
    from llmos.abi.batch import BatchInfo
    from llmos.sdk.client import Client

LOOK_BYTES = 1 << 20  # of the first line
SETTLED_S = 30.0


def batch(
    file: Annotated[str, typer.Argument(help="A file of requests, one a line; or batch_..., to come back to one.")],
    endpoint: Annotated[
        str | None, typer.Option(help="The route of all lines (default: the first line's url).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the answers go.")] = None,
    errors: Annotated[Path | None, typer.Option(help="Where the errors go (default: beside --out).")] = None,
    window: Annotated[str, typer.Option(help="The time that it may take: 24h, 90m, 7d.")] = "24h",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")] = True,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the batch that is named.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Ask many requests from a file, behind live calls. It goes on when this command ends."""
    from llmos.abi.wire import to_plain
    from llmos.sdk.receiving import export_target

    targets = _targets(out, errors)
    for target in targets.values():
        export_target(target, overwrite=force)
    with box() as client:
        found = _begin(client, file, endpoint, window, quiet=as_json)
        if cancel:
            found = client.cancel_batch(found.id)
        elif wait:
            found = _follow(client, found, quiet=as_json)
        if found.is_ended:
            _fetch(client, found, targets, force=force)
    if as_json:
        say_json(to_plain(found))
    else:
        _say(found, targets)
    return 1 if found.is_ended and found.errors else 0


def _targets(out: Path | None, errors: Path | None) -> dict[str, Path]:
    """The files to write, by the field of a batch that names what comes into them."""
    if out is not None and errors is None:
        errors = out.with_name(f"{out.stem}-errors{out.suffix}")
    return {key: path for key, path in (("output_file_id", out), ("error_file_id", errors)) if path is not None}


def _begin(client: Client, file: str, endpoint: str | None, window: str, *, quiet: bool) -> BatchInfo:
    """The batch that is named, or a new one of this file."""
    if file.startswith("batch_") and not Path(file).exists():
        return client.show_batch(file)
    path = Path(file).expanduser()
    route = endpoint or _route(path)
    return client.batch(send(client, str(path), quiet=quiet).ref, route, window=window)


def _route(path: Path) -> str:
    """The `url` of the first line; BadInput where there is none."""
    try:
        with path.open("rb") as lines:
            first = json.loads(lines.readline(LOOK_BYTES))
        return str(first["url"])
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}. Give a file of requests") from error
    except (ValueError, KeyError, TypeError) as error:
        said = f"The first line of {path} is no request with a url. Each line has custom_id, method, url and body"
        raise BadInput(said, file=str(path)) from error


def _follow(client: Client, found: BatchInfo, *, quiet: bool) -> BatchInfo:
    """The batch once it has ended."""
    from llmos.cli.progress import follow

    if found.pid is not None and not found.is_ended:
        follow(client, client.process(found.pid), quiet=quiet)
    until = time.monotonic() + SETTLED_S
    while not (found := client.show_batch(found.id)).is_ended and time.monotonic() < until:
        time.sleep(0.1)  # its files are kept a moment after its process has ended
    return found


def _fetch(client: Client, found: BatchInfo, targets: dict[str, Path], *, force: bool) -> None:
    for key, path in targets.items():
        if (file_id := getattr(found, key)) is not None:
            client.fetch_file(file_id, path, overwrite=force)


def _say(found: BatchInfo, targets: dict[str, Path]) -> None:
    counts = found.request_counts
    say(f"{found.id} {found.status}: {counts.completed:,} answered, {counts.failed:,} failed of {counts.total:,}")
    for fault in found.errors.data if found.errors else ():
        say(f"  {'the file' if fault.line is None else f'line {fault.line:,}'}: {fault.message}")
    if not found.is_ended:
        note(f"It goes on. Come back: llmos batch {found.id} --out FILE. Stop it: llmos batch {found.id} --cancel")
    elif not targets and found.output_file_id:
        note(f"Fetch the answers: llmos batch {found.id} --out FILE")


VERBS: dict[str, Any] = {"batch": batch}  # Any: verbs differ in what they take
