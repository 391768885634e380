"""Verification: reads files in full and reports those whose bytes have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from llmos.abi.api_types import Damage, Verified
from llmos.abi.error import Corrupt
from llmos.abi.model import File


class Verification:
    """Reads each file once, however many links it has; `check` raises Corrupt for a damaged one."""

    def __init__(self, check: Callable[[File, Path], None]) -> None:
        self._check = check
        self._read: dict[tuple[int, str], str] = {}  # by inode and digest: the damage, or an empty text
        self._bytes = 0
        self._damages: list[Damage] = []

    @property
    def result(self) -> Verified:
        """The findings so far."""
        return Verified(len(self._read), self._bytes, tuple(self._damages))

    def read(self, ref: str, files: Mapping[Path, File], hint: str = "") -> bool:
        """Read the files of this ref, which the command `hint` would repair; returns whether all are sound."""
        said = {file.path: self._sentence(file, path) for path, file in files.items()}
        damages = [Damage(ref, path, wrong, hint) for path, wrong in said.items() if wrong]
        self._damages += damages
        return not damages

    def _sentence(self, file: File, path: Path) -> str:
        try:
            key = (path.stat().st_ino, file.digest)
        except OSError:
            key = (0, f"{path}")
        if key not in self._read:
            self._bytes += file.size_bytes
            self._read[key] = self._wrong(file, path)
        return self._read[key]

    def _wrong(self, file: File, path: Path) -> str:
        try:
            self._check(file, path)
        except Corrupt as error:
            return error.message
        return ""
