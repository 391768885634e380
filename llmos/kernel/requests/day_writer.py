"""Writes rows into the files of days, and keeps the newest one's database open: to open and close it costs more than a
row does."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from llmos.kernel.requests import day_file
from llmos.kernel.requests.call_row import CallRow


class DayWriter:
    """For one thread. A file that is gone, or is another one now, is opened anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._day = ""
        self._database: sqlite3.Connection | None = None
        self._file = (0, 0)  # device and inode of what is open

    def write(self, day: str, rows: Sequence[CallRow]) -> None:
        """Write these rows of a day in one transaction; sqlite3.Error or OSError where that fails."""
        path = day_file.path_of(self._folder, day)
        if self._database is None or day != self._day or _file_of(path) != self._file:
            self.close()
            self._database = day_file.connect(path)
            # else a batch would reach the disk only with the thousandth page, or when the file is closed
            self._database.execute("PRAGMA synchronous = FULL")
            self._day, self._file = day, _file_of(path)
        try:
            day_file.write(self._database, rows)
        except sqlite3.Error:
            self.close()  # the next rows may find a whole file
            raise

    def close(self) -> None:
        """Close what is open."""
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _file_of(path: Path) -> tuple[int, int]:
    """The file's device and inode; zeros where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return found.st_dev, found.st_ino
