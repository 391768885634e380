"""Monitors for the API and the calls: begins and ends their processes, notes calls, and tells what they find."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.abi.call import CallRequest, Chunk
from llmos.abi.capability import allowed_tasks
from llmos.abi.error import BadInput, Conflict, LlmosError, NotFound, fault_of
from llmos.abi.frame import CallsSeen, CallsWanted, DriftFound, ModelAsked, ModelReplied, ToChild
from llmos.abi.json_type import Json
from llmos.abi.model import LATEST, split_ref
from llmos.abi.monitoring import DRIFT, REPORT, STATE, DriftAlarm, MonitoredVersion, MonitorState, observed_input
from llmos.abi.process import Priority, Process, Program, Spec, State, of_program
from llmos.abi.wire import from_json, to_json
from llmos.kernel.event_stream import EventStream
from llmos.kernel.monitoring.reservoir import Reservoir
from llmos.kernel.store import disk

if TYPE_CHECKING:
    from llmos.kernel.processes.process_service import ProcessService
    from llmos.kernel.store.store import Store

MONITOR = Program("monitor")
MOST_OF_A_CALL = 32  # inputs of a call that are noted
EMBED = "embed"
MonitorFrame = CallsWanted | ModelAsked | DriftFound
log = logging.getLogger(__name__)


class MonitorService:
    """The monitors of a home. Where none is at work, a call costs one look at `is_on`."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        processes: ProcessService,
        event_stream: EventStream,
        answer: Callable[[CallRequest], Awaitable[Chunk]],
        predictions: Callable[[str], tuple[str, int | None]],
        send: Callable[[int, ToChild], None],
        drifted: Callable[[DriftAlarm], None],
    ) -> None:
        """`drifted` is told each alarm that begins."""
        self._folder = folder
        self._store = store
        self._processes = processes
        self._event_stream = event_stream
        self._answer = answer
        self._predictions = predictions
        self._send = send
        self._drifted = drifted
        self._by_name: dict[str, LiveMonitor] = {}
        self._by_ref: dict[str, LiveMonitor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._forgetting: dict[str, asyncio.Task[None]] = {}  # texts of monitors that have ended, by name
        self.is_on = False  # whether any call is noted

    # For calls.

    def watches(self, ref: str) -> bool:
        """Whether calls to this version are noted."""
        return ref in self._by_ref

    def note(self, ref: str, inputs: Sequence[Json], chunk: Chunk, *, keeps_text: bool) -> None:
        """Note a call's inputs and answers. Never waits, never raises."""
        live = self._by_ref.get(ref)
        outputs, sizes, unknown = chunk.outputs, chunk.sizes, chunk.unknown
        if live is None or len(outputs) != len(inputs):
            return
        step = max(1, len(inputs) // MOST_OF_A_CALL)
        for at in range(0, len(inputs), step):
            size = sizes[at] if len(sizes) == len(inputs) else 0
            lacked = unknown[at] if len(unknown) == len(inputs) else 0
            live.reservoir.add(observed_input(inputs[at], outputs[at], size, lacked, keeps_text=keeps_text))
        if live.least and live.reservoir.seen >= live.least:
            self._give(live)

    # For the API.

    async def start(self, name: str) -> MonitorState:
        """Begin to monitor the calls to a name, or go on; Conflict for one without a promoted version."""
        if split_ref(name)[1] is not None or name.endswith(f":{LATEST}"):
            raise BadInput(f"A monitor is of a bare name: {name.partition(':')[0]}", name=name)
        self._store.found(name)
        if self._store.promoted(name) is None:
            raise Conflict(f"No version of {name} is promoted. Promote one first: llmos promote {name}:1", name=name)
        process = self._process_of(name)
        if process is not None and process.state is State.STOPPING:  # both would write its state
            async with aclosing(self._processes.watch(process.pid)) as changes:
                async for _ in changes:
                    pass
            process = self._process_of(name)
        if (forgetting := self._forgetting.get(name)) is not None:  # it writes the state too
            await asyncio.wait([forgetting])
        if process is None:
            await self._processes.submit(Spec(MONITOR, {"model": name}, priority=Priority.BACKGROUND))
        elif process.state in (State.INTERRUPTED, State.SUSPENDED):
            await self._processes.resume(process.pid)
        return await self.get(name)

    async def stop(self, name: str) -> MonitorState:
        """End the monitor of a name; what it has found stays, without texts."""
        process = self._process_of(name)
        if process is not None:
            await self._processes.kill(process.pid)
        return await self.get(name)

    async def get(self, name: str) -> MonitorState:
        """What the monitor of a name has found; NotFound if it never had one."""
        self._store.found(name)
        process = self._process_of(name)
        state = await asyncio.to_thread(_read_state, folder_of(self._folder, name) / STATE)
        if state is None and process is None:
            raise NotFound(f"{name} has had no monitor. Begin one: llmos monitor {name}", name=name)
        found = state or MonitorState(name)
        return MonitorState(**{**_fields(found), "pid": None if process is None else process.pid})

    async def report(self, name: str) -> bytes:
        """The report page of the newest look, as HTML; NotFound before the first."""
        state = await self.get(name)
        try:
            return await asyncio.to_thread((folder_of(self._folder, name) / REPORT).read_bytes)
        except FileNotFoundError:
            why = f"The monitor of {name} has not looked yet, after {state.calls:,} calls. See llmos monitor {name}"
            if state.pid is None:
                why = (
                    f"{name} has no monitor, and its page went with the last one. Begin one: llmos monitor {name} --on"
                )
            raise NotFound(why, name=name) from None

    def _process_of(self, name: str) -> Process | None:
        return next((one for one in self._live() if one.spec.args.get("model") == name), None)

    def _live(self) -> list[Process]:
        return [one for one in of_program(self._processes.all(), MONITOR) if one.state is not State.EXITED]

    # For the kernel.

    def look(self, process: Process) -> None:
        """A process has changed: a monitor may have begun or ended. One that has ended leaves no text."""
        if of_program((process,), MONITOR):
            self.follow()
            if process.state is State.EXITED:
                name = str(process.spec.args["model"])
                self._forgetting[name] = self._begin(asyncio.to_thread(forget_texts, folder_of(self._folder, name)))

    def follow(self) -> None:
        """The live monitors are those of the processes, each on its name's promoted version."""
        wanted = {str(one.spec.args["model"]): one.pid for one in self._live()}
        self._by_name = {name: self._by_name.get(name) or LiveMonitor(name) for name in wanted}
        self._by_ref = {}
        for name, live in self._by_name.items():
            version = self._store.promoted(name)
            ref = "" if version is None else f"{name}:{version}"
            if ref != live.ref:
                live.ref, live.reservoir, live.version = ref, Reservoir(), None
            if live.pid != wanted[name]:
                live.pid, live.least, live.version = wanted[name], 0, None
            self._by_ref[ref] = live
        self._by_ref.pop("", None)
        self.is_on = bool(self._by_ref)

    def forget_ended(self) -> None:
        """Forget the texts of monitors that have ended; blocks for the disk. A kill may have come between."""
        live = {folder_of(self._folder, name) for name in self._by_name}
        for folder in self._folder.glob("*"):
            if folder not in live:
                forget_texts(folder)

    def take(self, pid: int, frame: MonitorFrame) -> None:
        """A request of a monitor, or what it has found."""
        live = next((one for one in self._by_name.values() if one.pid == pid), None)
        if live is None:
            return
        if isinstance(frame, CallsWanted):
            live.least = max(1, frame.least)
            if live.reservoir.seen >= live.least:
                self._give(live)
        elif isinstance(frame, ModelAsked):
            self._begin(self._reply(pid, frame))
        else:
            self._tell(frame)

    async def close(self) -> None:
        """End what is being asked, once the texts of ended monitors are forgotten."""
        if self._forgetting:
            await asyncio.wait(self._forgetting.values())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _give(self, live: LiveMonitor) -> None:
        """What was noted since the last time."""
        calls, inputs = live.reservoir.take()
        live.least = 0
        if live.version is None:  # its process takes what it is given first
            live.version = self._version(live.ref)
        self._send(live.pid, CallsSeen(live.version, calls, inputs))

    def _version(self, ref: str) -> MonitoredVersion:
        try:
            manifest = self._store.resolve(ref)
            base = self._store.resolve(manifest.base) if manifest.base else None
        except LlmosError:  # it was removed just now
            return MonitoredVersion(ref)
        try:
            predictions = self._predictions(ref)[0]
        except LlmosError:  # it was never measured, or earlier than predictions were kept
            predictions = ""
        embeds = base.ref if base is not None and EMBED in allowed_tasks(base) else ""
        return MonitoredVersion(ref, manifest.task, predictions, embeds)

    async def _reply(self, pid: int, asked: ModelAsked) -> None:
        request = CallRequest(asked.model, asked.inputs, task=asked.task, priority=Priority.BACKGROUND)
        try:
            chunk = await self._answer(request)
            reply = ModelReplied(asked.request_id, chunk.outputs, chunk.sizes, chunk.unknown)
        except Exception as error:  # the top of a work beside the loop: its asker gets the fault
            if not isinstance(error, LlmosError):
                log.error("a question of process %d", pid, exc_info=error)
            reply = ModelReplied(asked.request_id, fault=fault_of(error))
        self._send(pid, reply)

    def _tell(self, found: DriftFound) -> None:
        alarm = found.alarm
        self._event_stream.publish(
            DRIFT,
            model=alarm.model,
            signal=alarm.signal,
            statistic=alarm.statistic,
            threshold=alarm.threshold,
            p_value=alarm.p_value,
            is_over=alarm.ended_at is not None,
        )
        if alarm.ended_at is None:
            self._drifted(alarm)


class LiveMonitor:
    """One monitored name: its process, its version, what was noted, and for how many calls its process waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid = 0
        self.ref = ""
        self.least = 0
        self.reservoir = Reservoir()
        self.version: MonitoredVersion | None = None  # as its process was told: looking it up reads folders


def folder_of(folder: Path, name: str) -> Path:
    """Where a monitor keeps what it has found."""
    return folder / name.replace("/", "%2F")


def forget_texts(folder: Path) -> None:
    """Take the texts of calls from what a monitor has found: those of its state, and its page."""
    try:
        (folder / REPORT).unlink(missing_ok=True)
        state = _read_state(folder / STATE)
        if state is not None and state.texts:
            disk.write(folder / STATE, to_json(replace(state, texts=())))
    except OSError as error:
        log.error("texts in %s are not removed, and will be at the next start: %s", folder, error)


def _read_state(path: Path) -> MonitorState | None:
    try:
        return from_json(path.read_bytes(), MonitorState)
    except FileNotFoundError:
        return None
    except (OSError, LlmosError) as error:
        log.error("the state of a monitor, %s, is damaged, and left out: %s", path, error)
        return None


def _fields(state: MonitorState) -> dict[str, Json]:
    return {name: getattr(state, name) for name in MonitorState.__slots__}
