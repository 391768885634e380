"""backup, restore: a home to a folder or file, while its daemon runs, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import Conflict
from llmos.cli.byte_progress import byte_progress
from llmos.cli.client import box
from llmos.cli.terminal import note, say, say_json, say_table, size

if TYPE_CHECKING:
    from llmos.backup.record import BackupRecord

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR|FILE.tar", help="A folder of backups, or a new tar file.")],
    keep: Annotated[int | None, typer.Option(min=1, help="Keep only so many backups of the folder.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not read again what earlier backups of the folder have stored.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back up the home while its daemon runs, trains and serves."""
    from llmos.backup.taking import take
    from llmos.config import read_config

    home = read_config().home
    taken = take(home, target, lambda: _freshen(home), keep=keep, is_quick=quick, show=byte_progress(as_json))
    for one in taken.record.notes:
        note(one)
    figures = {"new_bytes": taken.new_bytes, "verified_bytes": taken.verified_bytes, "freed_bytes": taken.freed_bytes}
    if as_json:
        say_json({"place": taken.place, **_summary(taken.record), **figures})
        return
    freed = f" Freed {size(taken.freed_bytes)} of older ones." if taken.freed_bytes else ""
    say(
        f"Backed up {home} to {taken.place} ({taken.record.id}): {len(taken.record.files):,} files, "
        f"{size(taken.record.size_bytes)}, of these {size(taken.new_bytes)} new; {size(taken.verified_bytes)} read "
        f"back and found right.{freed} Restore it: LLMOS_HOME=... llmos restore {target}"
    )


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR|FILE.tar", help="A folder of backups, or a tar file.")],
    at: Annotated[str | None, typer.Option(help="The id of the backup (default: the newest).")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Move a home that holds something aside, instead of refusing.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Only list the backups.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup to the home, which must be empty."""
    from llmos.backup.restoring import restore as restore_home
    from llmos.config import read_config

    if list_:
        _list(source, as_json)
        return
    done = restore_home(source, read_config().home, at, is_forced=force, show=byte_progress(as_json))
    if as_json:
        moved = None if done.moved_to is None else str(done.moved_to)
        say_json({**_summary(done.record), "home": str(done.home), "moved_to": moved})
        return
    for one in done.record.notes:
        note(one)
    moved_to = f" What was there is now at {done.moved_to}." if done.moved_to else ""
    say(
        f"Restored {done.record.id} to {done.home}: {len(done.record.files):,} files, {size(done.record.size_bytes)}, "
        f"all verified.{moved_to} Start it: llmos up"
    )


def _list(source: Path, as_json: bool) -> None:
    from llmos.backup.vault import reading

    with reading(source) as reader:
        records = reader.records()
    if as_json:
        say_json([_summary(record) for record in records])
        return
    rows = [(one.id, one.version, len(one.files), size(one.size_bytes), one.home) for one in records]
    say_table(("BACKUP", "LLMOS", "FILES", "SIZE", "OF"), rows)


def _summary(record: BackupRecord) -> dict[str, Any]:  # Any: JSON
    return {
        "id": record.id,
        "taken_at": record.taken_at,
        "version": record.version,
        "of": record.home,
        "files": len(record.files),
        "size_bytes": record.size_bytes,
        "notes": list(record.notes),
    }


def _freshen(home: Path) -> None:
    """Have the journal's snapshot written: by the daemon of this home, or here if there is none."""
    from llmos.backup.journal_state import compact_stopped
    from llmos.daemon import holding_home
    from llmos.home import daemon_of

    daemon = daemon_of(home)
    if daemon is None:
        with holding_home(home):
            compact_stopped(home)
        return
    daemon.close()
    with box() as client:
        found = client.snapshot()
    if Path(found.home).resolve() != home.resolve():
        raise Conflict(f"The daemon that answers is that of {found.home}, not of {home}. Set LLMOS_HOME to one of them")


VERBS = {"backup": backup, "restore": restore}
