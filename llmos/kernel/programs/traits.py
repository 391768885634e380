"""Traits: how the kernel treats the processes of a program, so that no code compares program names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traits:
    """What scheduler, process table, heartbeats and registry need to know. The journal stores them with a process."""

    answers_calls: bool = False
    """Calls for the base in its argument `base` go to it: models are attached to it, and it is evicted when idle."""

    is_restarted: bool = False
    """It starts again, with exponential backoff, when it ends unasked."""

    is_resumable: bool = False
    """Interrupted, it keeps its scratch folder, and `resume` queues it again. Any other is over when it ends."""

    continues: bool = False
    """Interrupted by no wish of a user, it is queued again by itself, from its scratch folder, also after a restart."""

    is_replaced_when_hung: bool = False
    """It is ended when its heartbeat is missing for too long; others may hold work, and are only shown."""

    is_ready_when_it_says: bool = False
    """It sends `Ready` itself, once it has loaded; any other is ready as soon as it starts."""

    uses_models: bool = False
    """The models of its arguments `base` and `model` cannot be removed while it works."""

    measures_devices: bool = False
    """All others wait until it has measured the devices."""

    exclusive_work: str = ""
    """What only one process of a device may do at a time, as a verb for those that wait: `trains`."""
