"""Copies of calls: the other version answers them in the background class; those that find no time are dropped."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

from llmos.abi.call import CallRequest, Chunk
from llmos.abi.error import Internal, LlmosError
from llmos.abi.process import Priority

MOST_RUNNING = 2
MOST_WAITING = 32
PATIENCE_S = 30.0
MOST_COPY_INPUTS = 64  # a larger call is not copied
log = logging.getLogger(__name__)

Copied = Callable[[Chunk | LlmosError], None]


class CallCopies:
    """At most a few run and wait at once, so that under load most are dropped. A copy never fails its call."""

    def __init__(self, answer: Callable[[CallRequest], Awaitable[Chunk]]) -> None:
        self._answer = answer
        self._waiting: deque[tuple[CallRequest, Copied]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    def put(self, request: CallRequest, ref: str, on_answer: Copied) -> None:
        """Have this version answer a copy, if there is room; `on_answer` gets its answer or its error."""
        if len(request.inputs) > MOST_COPY_INPUTS or len(self._waiting) >= MOST_WAITING:
            self.counts["dropped"] += 1
            return
        copy = replace(request, model=ref, priority=Priority.BACKGROUND, timeout_s=PATIENCE_S, rollout="", is_copy=True)
        self._waiting.append((copy, on_answer))
        self._start()

    async def close(self) -> None:
        """Drop all that wait, and cancel those that run."""
        self._waiting.clear()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self) -> None:
        while self._waiting and len(self._running) < MOST_RUNNING:
            task = asyncio.get_running_loop().create_task(self._run(*self._waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._after)

    def _after(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self._start()

    async def _run(self, copy: CallRequest, on_answer: Copied) -> None:
        try:
            found: Chunk | LlmosError = await self._answer(copy)
        except LlmosError as error:
            found = error
        except Exception as error:  # the top of a work beside the loop: it is the version's fault
            log.exception("a copy for %s failed", copy.model)
            found = Internal(f"{type(error).__name__}: {error}")
        self.counts["failed" if isinstance(found, LlmosError) else "answered"] += 1
        try:
            on_answer(found)
        except Exception:  # as above: a comparison must not end the copies
            log.exception("a copy for %s was not compared", copy.model)
