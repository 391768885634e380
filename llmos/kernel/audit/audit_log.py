"""Writes the audit log: entries are on the disk, and the head names the last, before anybody hears that they are.

A write that a crash broke off is removed at the next start, and an entry says so. A log that is not as the head says is
left as it is: a new segment begins, and its first entry says why.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llmos.abi.audit import BEGUN_ANEW, DAEMON, MENDED, AuditEntry, AuditFilter, AuditReport
from llmos.kernel.audit.audit_files import AuditFiles, first_of, lines_of
from llmos.kernel.audit.chain import START, ChainHead, Line, follows, write_line
from llmos.kernel.audit.verification import verify

SEGMENT_BYTES = 4 << 20
MOST_SEGMENTS = 32  # 128 MiB, about half a million entries; then the oldest segment goes


class AuditLog:
    """The log of one home. Whoever appends holds the home's lock."""

    def __init__(
        self,
        home: Path,
        *,
        clock: Callable[[], float] = time.time,
        segment_bytes: int = SEGMENT_BYTES,
        most_segments: int = MOST_SEGMENTS,
    ) -> None:
        self._home = home
        self._files = AuditFiles(home)
        self._clock = clock
        self._segment_bytes, self._most_segments = segment_bytes, most_segments
        self._key = b""
        self._head = ChainHead()
        self._path: Path | None = None  # the segment that is written; None before it was looked at
        self._one_at_a_time = threading.Lock()  # threads of the daemon's pool write, one after the other

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Write these entries; OSError if the disk does not take them. Those of them that it took whole stay."""
        with self._one_at_a_time:
            if self._path is None:
                entries = [*self._open(), *entries]
            try:
                self._write(entries)
            except OSError:
                self._path = None  # what was written of them is looked at before the next
                raise

    def verify(self) -> AuditReport:
        """Read the whole log, and say where it is not as it was written."""
        return verify(self._home)

    def find(self, wanted: AuditFilter) -> list[AuditEntry]:
        """The newest entries that are wanted, the newest first. It reads and checks nothing else."""
        found: list[AuditEntry] = []
        for path in reversed(self._files.segments()):
            lines, _ = lines_of(path.read_bytes())
            found += [
                line.entry for line in reversed(lines) if line.entry is not None and _is_meant(line.entry, wanted)
            ]
            if len(found) >= wanted.limit:
                break
        return found[: wanted.limit]

    # How it begins.

    def _open(self) -> Iterator[AuditEntry]:
        """Find the end of the log; entries about what was found there are to be written first."""
        files = self._files
        segments, key = files.segments(), files.key()
        is_new = key is None and not segments
        self._key = files.make_key() if key is None else key
        head = files.head(self._key)
        if is_new:
            self._head, self._path = ChainHead(), files.segment(1)
            return
        if key is None or head is None:
            yield self._begin_anew("the key was missing or cut" if key is None else "the head was missing or changed")
            return
        for path in [path for path in segments if first_of(path) < head.first]:
            path.unlink()  # a crash came before its removal
            segments.remove(path)
        yield from self._look_at_end(head, segments)

    def _look_at_end(self, head: ChainHead, segments: Sequence[Path]) -> Iterator[AuditEntry]:
        self._head = head
        if not segments:
            if head.last:
                yield self._begin_anew(f"entries up to {head.last} were missing")
            else:
                self._path = self._files.segment(1)
            return
        path = segments[-1]
        data = path.read_bytes()
        lines, _ = lines_of(data)
        at = _place_behind(head, first_of(path), lines)
        if at is None:
            yield self._begin_anew(f"entries up to {head.last} were missing or changed")
            return
        kept_bytes = sum(map(_size, lines[:at]))
        for line in lines[at:]:
            if line.entry is None or not follows(self._key, self._head.last_code, line):
                break
            self._head = replace(self._head, last=line.entry.seq, last_code=line.code)
            kept_bytes += _size(line)
        self._path = path
        if kept_bytes < len(data):
            os.truncate(path, kept_bytes)
            yield AuditEntry(DAEMON, MENDED, f"{len(data) - kept_bytes} bytes of a write that a crash broke off")

    def _begin_anew(self, why: str) -> AuditEntry:
        """Go on in a new segment behind everything that is there, with a chain of its own."""
        seen = [self._head.last]
        for path in self._files.segments():
            lines, _ = lines_of(path.read_bytes())
            seen += [first_of(path), *(line.entry.seq for line in lines if line.entry is not None)]
        last = max(seen)
        first = self._files.segments()[0] if self._files.segments() else None
        self._head = ChainHead(
            self._head.first if first is None else first_of(first), self._head.first_previous, last, START
        )
        self._path = self._files.segment(last + 1)
        return AuditEntry(DAEMON, BEGUN_ANEW, why)

    # How it goes on.

    def _write(self, entries: Sequence[AuditEntry]) -> None:
        assert self._path is not None, "it is opened first"
        head, now, written = self._head, self._clock(), []
        for entry in entries:
            numbered = replace(entry, seq=head.last + 1, at=now)
            line, code = write_line(self._key, head.last_code, numbered)
            written.append(line)
            head = replace(head, last=numbered.seq, last_code=code)
        path = self._path
        if path.exists() and path.stat().st_size >= self._segment_bytes:
            path = self._files.segment(self._head.last + 1)
        self._files.append(path, b"".join(written))
        over = self._files.segments()[: -self._most_segments]
        if over:
            head = replace(head, first=self._first_after(over), first_previous=_last_code(over[-1]))
        self._files.write_head(self._key, head)
        for one in over:
            one.unlink()
        self._head, self._path = head, path

    def _first_after(self, over: Sequence[Path]) -> int:
        return first_of(self._files.segments()[len(over)])


def _place_behind(head: ChainHead, first: int, lines: Sequence[Line]) -> int | None:
    """The index behind the head's last entry in the last segment; None if that entry is not there as it was."""
    if first == head.last + 1:
        return 0
    for at, line in enumerate(lines):
        if line.entry is not None and line.entry.seq == head.last and line.code == head.last_code:
            return at + 1
    return None


def _size(line: Line) -> int:
    return len(line.code) + 1 + len(line.body) + 1


def _last_code(path: Path) -> str:
    lines, _ = lines_of(path.read_bytes())
    return lines[-1].code if lines else START


def _is_meant(entry: AuditEntry, wanted: AuditFilter) -> bool:
    return (
        wanted.who in (None, entry.who)
        and wanted.what in entry.what
        and wanted.ref in entry.ref
        and entry.at >= wanted.since
    )
