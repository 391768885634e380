"""Notes which files of llmos a process passes. Python imports this at its start where this folder is on PYTHONPATH.

SIGUSR2 begins a window, and the next one ends it; forked children are in the window of their parent. Within a window
each file is written once to TRACES/<pid>.<window>, as soon as one of its functions runs. What runs while a module is
imported counts for nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

FUNCTION = 0x0001  # CO_OPTIMIZED: of the code of functions, not of modules and class bodies
IMPORTING = "<frozen importlib"
TREE, TRACES = os.environ.get("TRACED_TREE", ""), os.environ.get("TRACES", "")


class Window:
    """The window that is open, if one is."""

    def __init__(self) -> None:
        self.is_open = False
        self.number = 0
        self.seen: set[str] = set()

    def toggle(self, number: int, frame: FrameType | None) -> None:
        self.is_open = not self.is_open
        self.number += self.is_open
        self.seen.clear()

    def note(self, frame: FrameType, event: str, argument: Any) -> None:  # Any: by the event
        """The profile function of each thread."""
        if not self.is_open or event != "call":
            return
        code = frame.f_code
        if not code.co_flags & FUNCTION or not code.co_filename.startswith(TREE) or code.co_filename in self.seen:
            return
        if not is_importing(frame):
            self.seen.add(code.co_filename)
            with open(f"{TRACES}/{os.getpid()}.{self.number}", "a", encoding="utf-8") as file:
                file.write(code.co_filename.removeprefix(TREE) + "\n")


def is_importing(frame: FrameType) -> bool:
    """Somewhere above this frame a module is being imported."""
    above = frame.f_back
    while above is not None:
        if above.f_code.co_filename.startswith(IMPORTING):
            return True
        above = above.f_back
    return False


if TREE and TRACES:
    window = Window()
    signal.signal(signal.SIGUSR2, window.toggle)
    os.register_at_fork(after_in_child=window.seen.clear)
    threading.setprofile(window.note)
    sys.setprofile(window.note)
