"""Ends the daemons that tests leave when they are stopped half-way: it outlives them, and knows their folders.

A daemon is a session of its own, so that neither Ctrl-C nor the end of a test process reaches it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

PATIENCE_S = 20.0


def daemons_of(folders: Iterable[Path]) -> list[psutil.Process]:
    """Those whose home lies in one of these folders."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        homes = [Path(word.removeprefix("--home=")) for word in words if word.startswith("--home=")]
        if "llmos.daemon" in words and any(home.is_relative_to(folder) for home in homes for folder in folders):
            found.append(process)
    return found


def main() -> None:
    """A folder a line, until whoever says them is gone."""
    left = daemons_of([Path(line.rstrip("\n")) for line in sys.stdin])
    for process in left:
        process.terminate()
    for process in psutil.wait_procs(left, timeout=PATIENCE_S)[1]:
        process.kill()


if __name__ == "__main__":
    main()
