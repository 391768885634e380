"""Follow-ups: processes that start, and models that go, because a process has ended well, as its program declares.

They are not journalled before they are submitted. What a crash of the daemon loses is due again at the next such end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from llmos.abi.error import LlmosError
from llmos.abi.process import DONE, Process, Spec, State
from llmos.kernel.processes.process_service import ProcessService
from llmos.kernel.programs import declarations

if TYPE_CHECKING:
    from llmos.kernel.store.store import Store

log = logging.getLogger(__name__)


class FollowUps:
    """Starts what follows, one after another, so that two ends never start the same work twice."""

    def __init__(
        self, store: Store, processes: ProcessService, remove: Callable[[Sequence[str]], Awaitable[object]]
    ) -> None:
        """`remove` takes models of these refs out of the store."""
        self._store = store
        self._processes = processes
        self._remove = remove
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self, process: Process) -> None:
        """Begin what follows this process, if it has ended well; called for each change."""
        ended_well = process.state is State.EXITED and process.fault is None
        if ended_well and process.progress is not None and process.progress.phase == DONE:
            task = asyncio.get_running_loop().create_task(self._follow(process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for those in progress."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, ended: Process) -> None:
        program = declarations().get(ended.spec.program)
        if program is None:
            return
        async with self._one_at_a_time:
            try:
                found = await asyncio.to_thread(program.follow_up, ended, self._store, self._processes.all())
                if isinstance(found, Spec):
                    await self._processes.submit(found)
                elif found is not None:
                    await self._processes.resume(found)
                gone = await asyncio.to_thread(program.models_to_remove, ended, self._store, self._processes.all())
                if gone:
                    await self._remove(gone)
            except LlmosError as error:
                log.warning("nothing follows process %d (%s): %s", ended.pid, ended.spec.program, error.message)
            except Exception:  # the top of a work beside the loop: a program of another package may raise anything
                log.exception("what follows process %d (%s)", ended.pid, ended.spec.program)
