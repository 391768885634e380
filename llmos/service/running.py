"""The service that a running daemon is: found by its control group, stopped and started through systemd."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from llmos.abi.error import Unavailable
from llmos.service.control import UnitControl
from llmos.service.installation import check_booted, order

UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.service")


@dataclass(frozen=True, slots=True)
class RunningUnit:
    """A unit by its name, and the systemd that has it."""

    name: str
    control: UnitControl

    def stop(self) -> None:
        """Stop it; returns when its daemon has ended, and with it its trainings at their checkpoints."""
        self._order("stop")

    def start(self) -> None:
        """Start it; returns when its daemon answers."""
        self._order("start")

    def restart(self) -> None:
        """Both, one after the other."""
        self._order("restart")

    def _order(self, verb: str) -> None:
        check_booted(self.control)
        order(self.control, verb, self.name)


def unit_of(cgroup: str) -> tuple[str, bool]:
    """The unit whose control group this is (`/proc/PID/cgroup`), and whether it is one of a user's."""
    path = PurePosixPath(cgroup.rpartition(":")[2].strip())
    if not UNIT.fullmatch(path.name):
        raise Unavailable("The daemon is systemd's, and its unit cannot be told. Restart it: systemctl restart UNIT")
    return path.name, any(part.startswith("user@") for part in path.parts[:-1])
