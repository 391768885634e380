"""Verifies the audit log: reads every line, and says where it is not as it was written."""

from __future__ import annotations

from pathlib import Path

from llmos.abi.audit import BEGUN_ANEW, AuditReport
from llmos.kernel.audit.audit_files import AuditFiles, first_of, lines_of
from llmos.kernel.audit.chain import START, ChainHead, Line, follows

MOST_FINDINGS = 100


def verify(home: Path) -> AuditReport:
    """Read the whole log of a home. The head is read first: what is written meanwhile only comes after it."""
    files = AuditFiles(home)
    if not files.is_begun:
        return AuditReport(0, 0, 0)
    key = files.key()
    if key is None:
        return AuditReport(0, 0, 0, ("The key audit.key is missing or cut: no entry can be checked",))
    head = files.head(key)
    reading = _Reading(key, head)
    segments = [path for path in files.segments() if head is None or not _is_before(path, head)]
    for path in segments:
        reading.read(path.read_bytes(), is_last=path == segments[-1])
    return reading.report()


def _is_before(path: Path, head: ChainHead) -> bool:
    """Whether a segment's time was over: a crash came between that and its removal."""
    return first_of(path) < head.first


class _Reading:
    def __init__(self, key: bytes, head: ChainHead | None) -> None:
        self._key, self._head = key, head
        self._expected = 0 if head is None else head.first
        self._previous = None if head is None else head.first_previous
        self._findings: list[str] = []
        self._count, self._first, self._last = 0, 0, 0
        self._code_at_head = START
        self._unfinished_bytes = 0
        if head is None:
            self._note("The head audit.head is missing or changed: whether entries are missing at the end is not known")

    def read(self, data: bytes, *, is_last: bool) -> None:
        lines, rest = lines_of(data)
        for at, line in enumerate(lines):
            if is_last and self._is_past_head and self._is_broken_off(line):
                self._unfinished_bytes = sum(len(one.code) + len(one.body) + 2 for one in lines[at:]) + len(rest)
                return
            self._look(line)
        if rest and is_last and self._is_past_head:
            self._unfinished_bytes = len(rest)
        elif rest:
            self._note(f"Behind entry {self._last} stand {len(rest):,} bytes that are no entry")

    @property
    def _is_past_head(self) -> bool:
        return self._head is not None and self._last >= self._head.last

    def _is_broken_off(self, line: Line) -> bool:
        return line.entry is None or not (self._previous is None or follows(self._key, self._previous, line))

    def _look(self, line: Line) -> None:
        self._count += 1
        entry = line.entry
        if entry is None:
            self._note(f"Entry {self._expected} cannot be read")
            self._expected, self._previous = self._expected + 1, None
            return
        if self._expected and entry.seq != self._expected:
            is_gap = entry.seq > self._expected
            gone = f"{self._expected} to {entry.seq - 1} are missing" if is_gap else f"{entry.seq} stands there again"
            self._note(f"Entries are not in their order: {gone}, before or behind entry {self._last}")
        is_anew = entry.what == BEGUN_ANEW and follows(self._key, START, line)
        if is_anew:
            self._note(f"Entry {entry.seq}: the log was begun anew, because {entry.ref}")
        elif self._previous is not None and not follows(self._key, self._previous, line):
            self._note(f"Entry {entry.seq} is not what was written there")
        self._first = self._first or entry.seq
        self._last, self._expected, self._previous = max(self._last, entry.seq), entry.seq + 1, line.code
        if self._head is not None and entry.seq == self._head.last:
            self._code_at_head = line.code

    def _note(self, finding: str) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(finding)

    def report(self) -> AuditReport:
        head = self._head
        if head is not None and self._last < head.last:
            self._note(f"Entries {self._last + 1} to {head.last} are missing at the end")
        elif head is not None and self._code_at_head != head.last_code:
            self._note(f"Entry {head.last} is not the one that the head names")
        return AuditReport(self._count, self._first, self._last, tuple(self._findings), self._unfinished_bytes)
