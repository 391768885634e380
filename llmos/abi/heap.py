"""The heap: returns freed memory to the operating system (glibc only), and bounds what the garbage collector walks."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

YOUNG_OBJECTS = 5_000  # more that came than went, until the collector looks at the young ones
GENERATIONS = (10, 10)  # looks at the young until one at the middle ones, and at those until one at the old


def give_back() -> None:
    """Ask the allocator to return free memory to the operating system; takes milliseconds. Thread-safe."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def freeze() -> None:
    """Let the garbage collector pass over all that lives now, and look less often; takes tens of milliseconds.

    For a process that has loaded its code and serves from now on: by default a look at the old objects walks all of
    its code, while a call waits. Of objects that refer to each other, those that live now are never freed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *GENERATIONS)
