"""systemd as `llmos service` speaks to it: by its own programs, and never with more rights than the caller has."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llmos.abi.error import Unavailable

BOOTED = Path("/run/systemd/system")  # there if systemd runs the machine: sd_booted(3)
TIMEOUT_S = 300.0  # longer than the unit may take to stop


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one command."""

    code: int
    out: str = ""
    err: str = ""


class UnitControl(Protocol):
    """A machine's or a user's systemd."""

    def is_booted(self) -> bool:
        """Whether systemd runs this machine."""
        ...

    def systemctl(self, *words: str) -> Ran:
        """Ask it something, or have it do something."""
        ...

    def verify(self, unit: Path) -> Ran | None:
        """What systemd says of a unit file; None where it has no program for that."""
        ...


class SystemdControl:
    """The systemd of this machine, or of this user."""

    def __init__(self, *, is_user: bool) -> None:
        self._scope = ("--user",) if is_user else ()

    def is_booted(self) -> bool:
        return BOOTED.is_dir() and shutil.which("systemctl") is not None

    def systemctl(self, *words: str) -> Ran:
        return _run("systemctl", *self._scope, *words)

    def verify(self, unit: Path) -> Ran | None:
        if shutil.which("systemd-analyze") is None:
            return None
        return _run("systemd-analyze", "--man=no", "verify", str(unit))


def _run(*words: str) -> Ran:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{words[0]} does not run here: {error}") from error
    return Ran(done.returncode, done.stdout, done.stderr)
