"""A systemd for tests that keeps what it was asked, and knows units by their files."""

from __future__ import annotations

from pathlib import Path

from llmos.service.control import Ran


class MemoryUnitControl:
    """Starts and stops nothing: it knows which unit would run, and as which pid."""

    def __init__(self, *, booted: bool = True, fails: str = "", wrong: str = "") -> None:
        self.asked: list[tuple[str, ...]] = []
        self.os_pid = 0
        self._is_booted, self._fails, self._wrong = booted, fails, wrong

    def is_booted(self) -> bool:
        return self._is_booted

    def systemctl(self, *words: str) -> Ran:
        if words[0] == "show":
            state = "active" if self.os_pid else "inactive"
            return Ran(0, f"LoadState=loaded\nActiveState={state}\nMainPID={self.os_pid}\nMore=x\n")
        self.asked.append(words)
        if words[0] == self._fails:
            return Ran(1, err="Job for llmos.service failed.\n")
        if words[0] in ("restart", "disable"):
            self.os_pid = 4711 if words[0] == "restart" else 0
        return Ran(0)

    def verify(self, unit: Path) -> Ran | None:
        assert unit.suffix == ".service"
        assert unit.exists()
        return Ran(1, err=self._wrong) if self._wrong else Ran(0)
