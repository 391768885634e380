"""Requests of child processes: a program starts, resumes and ends processes of its own, as a client would.

Each becomes the event that a client's request becomes, so that the loop stays the only writer. A process may touch
only what it has started, and may start only the programs that its declaration names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from llmos.abi.error import BadInput, LlmosError, ProcessNotFound, fault_of
from llmos.abi.frame import Act, ChildChanged, Replied, Requested, ToChild
from llmos.abi.process import Process, Program, Spec
from llmos.kernel.processes.process_runtime import CALLED
from llmos.kernel.processes.process_service import ProcessService
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.programs import declaration_of

log = logging.getLogger(__name__)


class ChildRequests:
    """Answers the requests of children, and tells each of changes of the processes that it has started."""

    def __init__(self, table: ProcessTable, processes: ProcessService, send: Callable[[int, ToChild], None]) -> None:
        self._table = table
        self._processes = processes
        self._send = send
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, pid: int, request: Requested) -> None:
        """Begin to do what the process asks; its reply follows."""
        task = asyncio.get_running_loop().create_task(self._answer(pid, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def tell_parent(self, process: Process) -> None:
        """Tell the parent of a changed process, if it lives."""
        parent = process.spec.parent
        if parent is not None and parent in self._table.processes and self._table.process(parent).state in CALLED:
            self._send(parent, ChildChanged(process))

    async def close(self) -> None:
        """Wait for the requests in progress."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, pid: int, request: Requested) -> None:
        try:
            reply = Replied(request.request_id, await self._act(pid, request))
        except Exception as error:  # the top of a work beside the loop: its asker gets the fault
            if not isinstance(error, LlmosError):
                log.error("a request of process %d", pid, exc_info=error)
            reply = Replied(request.request_id, fault=fault_of(error))
        self._send(pid, reply)

    async def _act(self, pid: int, request: Requested) -> tuple[Process, ...]:
        match request.act:
            case Act.SUBMIT:
                return (await self._processes.submit(self._spec(self._table.process(pid), request)),)
            case Act.RESUME:
                return (await self._processes.resume(self._own(pid, request.pid), request.args),)
            case Act.KILL:
                return (await self._processes.kill(self._own(pid, request.pid), reason=f"ended by process {pid}"),)
            case Act.SETTLE:
                return (await self._processes.settle(pid, request.args),)
            case Act.LIST:
                return tuple(one for one in self._processes.all() if one.spec.parent == pid)

    def _spec(self, parent: Process, request: Requested) -> Spec:
        """The process to start: with its parent's priority, on its parent's device."""
        if request.program not in declaration_of(parent.spec.program).starts:
            raise BadInput(f"{parent.spec.program} starts no {request.program}", key="program", value=request.program)
        return Spec(
            Program(request.program),
            request.args,
            request.title,
            parent.spec.priority,
            parent.spec.device,
            parent=parent.pid,
        )

    def _own(self, pid: int, child: int) -> int:
        if self._table.process(child).spec.parent != pid:
            raise ProcessNotFound(f"Process {pid} has started no process {child}", pid=child)
        return child
