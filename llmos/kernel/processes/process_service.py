"""Processes for the API: each request becomes an event, and returns once the loop has applied it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

from llmos.abi.api_types import StreamEvent
from llmos.abi.error import BadSetting, NotFound
from llmos.abi.json_type import Json
from llmos.abi.process import Priority, Process, Spec
from llmos.config import Config
from llmos.kernel import events as ev
from llmos.kernel.admission import admit, footprint_of, title_with
from llmos.kernel.children.cleanup import EXPORT
from llmos.kernel.children.log_reader import follow_log, read_log
from llmos.kernel.children.logs import log_path
from llmos.kernel.event_stream import EventStream
from llmos.kernel.loop import Loop
from llmos.kernel.paths import Roots
from llmos.kernel.processes.ledger import no_room
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.programs import declaration_of, traits_of
from llmos.kernel.store.store import Store

STOPPED = "stopped by the user"
NOTHING: Mapping[str, Json] = {}
RESULT = "result.json"  # in the folder of a process's reports: what it has found
REPORT = "report.html"  # likewise, for people


class ProcessService:
    """Submits, lists, signals and watches processes."""

    def __init__(
        self,
        config: Config,
        table: ProcessTable,
        store: Store,
        loop: Loop,
        event_stream: EventStream,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._table = table
        self._store = store
        self._loop = loop
        self._event_stream = event_stream
        self._clock = clock
        self._pids = count(table.last_pid + 1)

    async def submit(self, spec: Spec) -> Process:
        known = (self._store, self._config.kv_bytes, self._config.engine, self._config.threads)
        spec = replace(spec, args=await asyncio.to_thread(Roots(self._config).with_real_paths, spec.program, spec.args))
        spec, needs = await asyncio.to_thread(admit, spec, *known)
        self._check_fits(spec)
        pid = next(self._pids)
        await self._loop.ask(ev.Submitted(self._clock(), pid, spec, needs, traits_of(spec.program)))
        return self._table.process(pid)

    def all(self) -> list[Process]:
        return list(self._table.processes.values())

    def get(self, pid: int) -> Process:
        return self._table.process(pid)

    async def kill(self, pid: int, *, force: bool = False, reason: str = STOPPED) -> Process:
        await self._loop.ask(ev.KillAsked(self._clock(), pid, force, reason))
        return self._table.process(pid)

    async def suspend(self, pid: int) -> Process:
        await self._loop.ask(ev.SuspendAsked(self._clock(), pid))
        return self._table.process(pid)

    async def resume(self, pid: int, args: Mapping[str, Json] = NOTHING) -> Process:
        title = title_with(self._table.process(pid).spec, args) if args else ""
        await self._loop.ask(ev.ResumeAsked(self._clock(), pid, dict(args), title))
        return self._table.process(pid)

    async def settle(self, pid: int, args: Mapping[str, Json]) -> Process:
        """Note what a process has decided of the arguments that its program leaves to it, and what it needs then."""
        spec = self._table.process(pid).spec
        if unknown := sorted(args.keys() - declaration_of(spec.program).settles):
            raise BadSetting(f"{spec.program} does not decide {unknown[0]!r} itself", key=unknown[0])
        settled = replace(spec, args={**spec.args, **args})
        known = (self._store, self._config.kv_bytes, self._config.threads)
        needs = await asyncio.to_thread(footprint_of, settled, *known)
        await self._loop.ask(ev.Settled(self._clock(), pid, dict(args), needs))
        return self._table.process(pid)

    async def nice(self, pid: int, priority: Priority) -> Process:
        await self._loop.ask(ev.NiceAsked(self._clock(), pid, priority))
        return self._table.process(pid)

    async def result(self, pid: int) -> bytes:
        self._table.process(pid)
        path = self._config.home / "evaluations" / str(pid) / RESULT
        try:
            return await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise NotFound(
                f"Process {pid} has kept no result. Its state: llmos ps; its log: llmos logs {pid}", pid=pid
            ) from error

    async def report(self, pid: int) -> bytes:
        self._table.process(pid)
        path = self._config.home / "evaluations" / str(pid) / REPORT
        try:
            return await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise NotFound(
                f"Process {pid} has no report page, or none yet. Its state: llmos ps; its log: llmos logs {pid}",
                pid=pid,
            ) from error

    async def export_part(self, pid: int, offset: int, limit: int) -> bytes:
        self._table.process(pid)
        path = self._config.home / "evaluations" / str(pid) / EXPORT
        try:
            return await asyncio.to_thread(_read_part, path, offset, limit)
        except OSError as error:
            raise NotFound(
                f"Process {pid} has no file: it exported none, or it is removed after a day. Export again", pid=pid
            ) from error

    async def log(self, pid: int, *, tail_lines: int | None = None) -> str:
        self._table.process(pid)
        return await asyncio.to_thread(read_log, log_path(self._config.home, pid), tail_lines)

    def follow_log(self, pid: int, *, tail_lines: int | None = None) -> AsyncGenerator[str, None]:
        self._table.process(pid)
        return follow_log(log_path(self._config.home, pid), lambda: self._is_over(pid), tail_lines)

    def watch(self, pid: int | None = None) -> AsyncGenerator[StreamEvent, None]:
        return self._event_stream.watch(None if pid is None else self._table.process(pid))

    def _is_over(self, pid: int) -> bool:
        """Whether nobody writes to its log any more."""
        process = self._table.processes.get(pid)
        return process is None or process.is_ended

    def _check_fits(self, spec: Spec) -> None:
        devices = [device.name for device in self._table.devices]
        if spec.device not in devices:
            said = f"No device {spec.device!r} here. There are: {', '.join(devices)}. See: llmos status"
            raise BadSetting(said, key="device", value=spec.device, expected=devices)
        declaration_of(spec.program).check_device(spec, self._table.device(spec.device))
        capacity = self._table.ledger.capacity(spec.device)
        if spec.need_bytes > capacity:
            raise no_room(spec.device, spec.need_bytes, capacity)


def _read_part(path: Path, offset: int, limit: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(limit)
