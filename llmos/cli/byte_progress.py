"""Progress of long copies, in bytes, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

from llmos.cli.terminal import note, size


def byte_progress(as_json: bool) -> Callable[[str, int, int], None]:
    """Progress: one line that is written over on a terminal, else a line a phase."""
    shown: list[str] = []

    def show(phase: str, done: int, total: int) -> None:
        if as_json:
            return
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            sys.stderr.write(f"\r\x1b[K{phase} {size(done)} of {size(total)}{end}")
            sys.stderr.flush()
        elif phase not in shown:
            shown.append(phase)
            note(f"{phase} {size(total)}")

    return show
