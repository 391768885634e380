"""An event of the kernel, and how durably the journal keeps it. The kinds are in `events`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class Durability(IntEnum):
    """How durably the journal keeps an event."""

    NONE = 0  # not written: it only reports a current state
    WRITTEN = 1  # written, and safe if the daemon is killed
    FSYNCED = 2  # synced to the disk before anybody learns of it


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a time (seconds since the epoch)."""

    durability: ClassVar[Durability] = Durability.WRITTEN
    is_quiet: ClassVar[bool] = False  # it only reports a state: nothing can start or must stop because of it
    is_fact: ClassVar[bool] = False  # a caller may wait for it, but it is applied even if it cannot be written
    at: float
