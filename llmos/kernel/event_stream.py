"""The event stream: numbered events for clients that watch processes, models and devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from itertools import count

from llmos.abi.api_types import StreamEvent
from llmos.abi.json_type import Json
from llmos.abi.process import Process


class EventStream:
    """Publishes to any number of watchers; each has its own queue, so a slow one delays nobody."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sequence = count(1)
        self._watchers: set[asyncio.Queue[StreamEvent | None]] = set()

    def publish(self, kind: str, *, process: Process | None = None, pid: int | None = None, **data: Json) -> None:
        stream_event = self._stream_event(kind, process, pid, data)
        for watcher in self._watchers:
            watcher.put_nowait(stream_event)

    async def watch(self, process: Process | None = None) -> AsyncGenerator[StreamEvent, None]:
        """Events from now on; of one process: its present state first, then its events until it has ended."""
        queue: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            if process is not None:
                yield self._stream_event("process", process, None, {})
                if process.is_ended:
                    return
            while (stream_event := await queue.get()) is not None:
                if process is not None and stream_event.pid != process.pid:
                    continue
                yield stream_event
                if process is not None and stream_event.process is not None and stream_event.process.is_ended:
                    return
        finally:
            self._watchers.discard(queue)

    def close(self) -> None:
        """End every watch."""
        for watcher in self._watchers:
            watcher.put_nowait(None)

    def _stream_event(self, kind: str, process: Process | None, pid: int | None, data: dict[str, Json]) -> StreamEvent:
        number = process.pid if process is not None else pid
        return StreamEvent(next(self._sequence), self._clock(), kind, number, process, data)
