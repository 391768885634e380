"""A small home with models, a dataset and a journal, and what a restored one must have in common with it."""

from __future__ import annotations

from pathlib import Path

from llmos.abi.process import Process, Spec, State
from llmos.backup.journal_state import compact_stopped
from llmos.kernel import events as ev
from llmos.kernel.journal import Journal
from llmos.kernel.programs import declaration_of
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

MADE_ANEW = ("journal.db", "daemon.lock", "verified.json")


def stocked_home(home: Path) -> Path:
    """Two versions of a model, the second promoted, and pages that no daemon knows."""
    store = Store(home)
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=901)
    add_model(store, "mood", "tiny:1", pid=902)
    store.promote("mood:2")
    (home / "config.toml").write_text("port = 8601\n")
    (home / "config.toml").chmod(0o600)
    (home / "later").mkdir()
    (home / "later" / "page.txt").write_text("a part of the home that this version does not know")
    return home


def submit(home: Path, pid: int) -> None:
    """A training in the journal that has not ended, as a daemon leaves it."""
    journal = Journal(home / "journal.db")
    spec = Spec("train", {"base": "tiny:1", "name": "x"})
    journal.append(ev.Submitted(1.0, pid, spec, {}, declaration_of("train").traits))
    journal.append(ev.Admitted(2.0, pid))
    journal.append(ev.Forked(3.0, pid, 4242, 1.0))
    journal.close()


def freshen(home: Path) -> None:
    """As the daemon of this home would."""
    compact_stopped(home)


def contents(home: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and mode of each file that a backup has; links to blobs and what this moment has written are none."""
    return {
        path.relative_to(home).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o700)
        for path in home.rglob("*")
        if path.is_file() and path.name not in MADE_ANEW and path.relative_to(home).parts[0] != "models"
    }


def processes(home: Path) -> list[Process]:
    """The processes in the journal's snapshot."""
    journal = Journal(home / "journal.db")
    try:
        found = journal.snapshot()
    finally:
        journal.close()
    assert found is not None
    return [process for process in found.processes if process.state is not State.EXITED]
