"""Monitors in memory, for tests of what stands on the kernel: they note calls, and find nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmos.abi.api_types import ModelView
from llmos.abi.call import Chunk
from llmos.abi.error import NotFound
from llmos.abi.json_type import Json
from llmos.abi.monitoring import MonitorState, ObservedInput, observed_input


class MemoryMonitoring:
    """Monitors by name; every version of a monitored name is noted. `find` raises for a name that is not there."""

    def __init__(self, find: Callable[[str], ModelView]) -> None:
        self._find = find
        self.states: dict[str, MonitorState] = {}
        self.noted: list[ObservedInput] = []
        self.is_on = False

    def watches(self, ref: str) -> bool:
        return ref.partition(":")[0] in self.states

    def note(self, ref: str, inputs: Sequence[Json], chunk: Chunk, *, keeps_text: bool) -> None:
        if self.watches(ref):
            unknown = chunk.unknown or (0,) * len(inputs)
            for given, output, size, lacked in zip(inputs, chunk.outputs, chunk.sizes, unknown, strict=True):
                self.noted.append(observed_input(given, output, size, lacked, keeps_text=keeps_text))

    async def start(self, name: str) -> MonitorState:
        self._find(name)
        self.is_on = True
        self.states[name] = MonitorState(name, pid=7)
        return await self.get(name)

    async def stop(self, name: str) -> MonitorState:
        await self.get(name)
        self.states[name] = MonitorState(name)
        return await self.get(name)

    async def report(self, name: str) -> bytes:
        state = await self.get(name)
        if state.pid is None:
            raise NotFound(f"The monitor of {name} has not looked yet", name=name)
        return f"<h1>{name}</h1>".encode()

    async def get(self, name: str) -> MonitorState:
        self._find(name)
        if name not in self.states:
            raise NotFound(f"{name} has had no monitor", name=name)
        return self.states[name]
