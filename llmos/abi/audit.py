"""Audit: who changed what, when, from where, and how it ended. Never a text of a call."""

from __future__ import annotations

from dataclasses import dataclass

MOST_REF = 200  # characters of a ref that are kept
MOST_ENTRIES = 1_000  # of one answer
OWNER = "local"  # who acts with the home's own key, or in the home while no daemon runs
DAEMON = "daemon"  # who acts by itself
MENDED = "audit.mended"  # a write that a crash had broken off was removed; its bytes are the ref
BEGUN_ANEW = "audit.begun-anew"  # what is written before cannot be trusted; why is the ref


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change of state.

    `who` is the id of a key, empty where none was needed, `local` for the home's owner, or `daemon`. `what` is the
    route or the command, `ref` what it was done to. `origin` is the address that it came from, empty for this machine's
    command line and the daemon itself. `outcome` is ok, or the error's code. `seq` and `at` are given by the log.
    """

    who: str
    what: str
    ref: str = ""
    origin: str = ""
    outcome: str = "ok"
    seq: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are meant: of these the newest `limit`. `what` and `ref` are parts of what they contain."""

    who: str | None = None
    what: str = ""
    ref: str = ""
    since: float = 0.0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What `verify` has found: the entries that were read, and a sentence for each place that is not as it was written.

    `unfinished_bytes` is the length of a write that a crash broke off, behind all that was acknowledged.
    """

    entries: int
    first: int
    last: int
    findings: tuple[str, ...] = ()
    unfinished_bytes: int = 0
