"""Calls of routes by child processes: a program asks as a client does, and gets the answer that a client gets.

The kernel knows no routes: the daemon connects who answers (`answered_by`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable

from llmos.abi.error import Forbidden, LlmosError, Unavailable, fault_of
from llmos.abi.frame import RouteCalled, RouteReplied, ToChild
from llmos.abi.process import Process
from llmos.abi.wire import to_json
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.programs import declarations

Answer = Callable[[RouteCalled, str], Awaitable[RouteReplied]]
KEY = "key"  # of a process's arguments: the id of the key whose rights and limits its calls have
REFUSED = 503  # until the routes are there
log = logging.getLogger(__name__)


class RouteCalls:
    """Answers the calls of children. A call ends with the process that made it."""

    def __init__(self, table: ProcessTable, send: Callable[[int, ToChild], None]) -> None:
        self._table = table
        self._send = send
        self._answer: Answer | None = None
        self.by_pid: defaultdict[int, set[asyncio.Task[None]]] = defaultdict(set)  # calls in progress

    def answered_by(self, answer: Answer) -> None:
        """From now on, this answers calls."""
        self._answer = answer

    def take(self, pid: int, call: RouteCalled) -> None:
        """Begin to answer; the reply follows."""
        task = asyncio.get_running_loop().create_task(self._reply(pid, call))
        self.by_pid[pid].add(task)
        task.add_done_callback(self.by_pid[pid].discard)

    def look(self, process: Process) -> None:
        """Cancel the calls of a process that has ended; called for each change."""
        if process.os_pid is None and process.pid in self.by_pid:
            for task in self.by_pid.pop(process.pid):
                task.cancel()

    async def close(self) -> None:
        """Cancel the calls in progress."""
        tasks = [task for some in self.by_pid.values() for task in some]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reply(self, pid: int, call: RouteCalled) -> None:
        try:
            reply = await self._reply_to(pid, call)
        except Exception as error:  # the top of a work beside the loop: its asker gets the fault
            if not isinstance(error, LlmosError):
                log.error("a call of process %d", pid, exc_info=error)
            reply = RouteReplied(call.request_id, REFUSED, to_json({"error": fault_of(error)}))
        self._send(pid, reply)

    async def _reply_to(self, pid: int, call: RouteCalled) -> RouteReplied:
        spec = self._table.process(pid).spec
        program = spec.program
        if program not in declarations() or not declarations()[program].calls_routes:
            raise Forbidden(f"{program} calls no routes", program=program)
        if self._answer is None:
            raise Unavailable("The daemon is not ready for calls yet")
        return await self._answer(call, str(spec.args.get(KEY) or ""))
