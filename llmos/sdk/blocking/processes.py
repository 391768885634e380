"""Parts of Client. Made by tools/sync_client.py from aio/processes.py: edit that file."""

from __future__ import annotations

from collections.abc import Iterator

from llmos.abi.process import Priority, Process
from llmos.sdk import request
from llmos.sdk.blocking.connection import DaemonConnection
from llmos.sdk.transport import check_reply


class ProcessesClient(DaemonConnection):
    """Processes: a list of them, their state and their logs."""

    def processes(self) -> list[Process]:
        """All processes the journal remembers, oldest first."""
        return self._ask(request.processes())

    def kill(self, pid: int, *, force: bool = False) -> Process:
        """Stop a process; a trainer writes a checkpoint first, unless by force."""
        return self._ask(request.kill(pid, force=force))

    def suspend(self, pid: int) -> Process:
        """Pause a process."""
        return self._ask(request.suspend(pid))

    def resume(self, pid: int) -> Process:
        """Continue a process; an interrupted one goes on from its checkpoint."""
        return self._ask(request.resume(pid))

    def nice(self, pid: int, priority: Priority | str) -> Process:
        """Change the priority of a process."""
        return self._ask(request.nice(pid, priority))

    def logs(self, pid: int, *, tail: int | None = None) -> str:
        """The log of a process, or its last lines."""
        query = {} if tail is None else {"tail": str(tail)}
        response = self._send("GET", f"/v1/processes/{pid}/log", query=query)
        if not response.is_success:
            check_reply(response)
        return response.text

    def follow(self, pid: int, *, tail: int | None = None) -> Iterator[str]:
        """The log of a process from its start or its last lines, and further lines as they are written."""
        last = "" if tail is None else f"&tail={tail}"
        for _, text in self._events("GET", f"/v1/processes/{pid}/log?follow=true{last}"):
            yield text
