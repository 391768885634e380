"""The journal in a backup: its snapshot of one moment, which the daemon writes, or a replay where none runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from llmos.abi.error import Corrupt
from llmos.kernel import journal_copy
from llmos.kernel.journal import Journal
from llmos.kernel.loop import replay
from llmos.kernel.processes.process_runtime import Snapshot
from llmos.kernel.processes.process_table import ProcessTable

JOURNAL = "journal.db"


def compact_stopped(home: Path) -> None:
    """Write the snapshot of a home without a daemon; the caller holds its lock. Corrupt if its journal is damaged."""
    journal = Journal(home / JOURNAL)
    try:
        table = ProcessTable(journal.snapshot(), memory_share=1.0, stop_grace_s=0.0)
        replay(journal, table)
        journal.compact(table.snapshot())
    finally:
        journal.close()


def read_state(home: Path) -> tuple[Snapshot, bytes]:
    """The snapshot beside the journal, and its bytes for another machine: there no operating system's pid is ours."""
    kept = journal_copy.read(home / JOURNAL)
    if kept is None:
        raise Corrupt(f"{home} has no snapshot of its journal. Start its daemon once: llmos up", path=str(home))
    snapshot = kept.decode()
    snapshot = replace(snapshot, processes=tuple(replace(one, os_pid=None) for one in snapshot.processes))
    return snapshot, journal_copy.encode(kept.sequence, msgspec.json.encode(snapshot), kept.at)


def place(home: Path) -> Path:
    """Where the snapshot lies."""
    return journal_copy.place(home / JOURNAL)
