"""The files of the audit log in a home: segments by their first entry, the key, and the head apart from both."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from llmos.kernel.audit.chain import ChainHead, Line, read_head, read_line, write_head
from llmos.kernel.store import disk

FOLDER, KEY, HEAD = "audit", "audit.key", "audit.head"
NAME = re.compile(r"(\d{12})\.log")
KEY_BYTES = 32


class AuditFiles:
    """Reads and writes them; decides nothing."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.folder = home / FOLDER

    @property
    def is_begun(self) -> bool:
        """Whether anything of a log is there."""
        return any((self._home / name).exists() for name in (KEY, HEAD)) or bool(self.segments())

    def segments(self) -> list[Path]:
        """The files of entries, the oldest first."""
        return sorted(path for path in self.folder.glob("*.log") if NAME.fullmatch(path.name))

    def segment(self, first: int) -> Path:
        """The file that begins with this entry."""
        return self.folder / f"{first:012d}.log"

    def key(self) -> bytes | None:
        """The home's key of this log; None if it is missing or cut."""
        try:
            key = (self._home / KEY).read_bytes()
        except FileNotFoundError:
            return None
        return key if len(key) == KEY_BYTES else None

    def make_key(self) -> bytes:
        """A new key, which only the home's owner can read. The head is written before it."""
        key = secrets.token_bytes(KEY_BYTES)
        self.write_head(key, ChainHead())
        path = self._home / KEY
        aside = disk.temporary(path)
        number = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(number, "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        disk.sync(self._home)
        return key

    def head(self, key: bytes) -> ChainHead | None:
        """The head; None if it is missing, or not signed with this key."""
        try:
            return read_head(key, (self._home / HEAD).read_bytes())
        except FileNotFoundError:
            return None

    def write_head(self, key: bytes, head: ChainHead) -> None:
        """Replace the head; it is on the disk at the end."""
        disk.write(self._home / HEAD, write_head(key, head))

    def append(self, path: Path, data: bytes) -> None:
        """Add these lines to a segment; they are on the disk at the end."""
        is_new = not path.exists()
        if is_new:
            disk.make_folder(self.folder)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with open(number, "ab", buffering=0) as file:
                if file.write(data) != len(data):
                    raise OSError(28, "the disk took only a part of an entry", str(path))
                os.fsync(file.fileno())
        finally:
            if is_new:
                disk.sync(self.folder)


def lines_of(data: bytes) -> tuple[list[Line], bytes]:
    """The lines of a segment, and what stands behind the last end of a line."""
    *whole, rest = data.split(b"\n")
    return [read_line(line) for line in whole], rest


def first_of(path: Path) -> int:
    """The entry with which a segment begins, by its name."""
    found = NAME.fullmatch(path.name)
    assert found is not None, path
    return int(found[1])
