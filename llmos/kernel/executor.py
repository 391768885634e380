"""The executor: starts each effect beside the loop and posts its outcome as an event."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llmos.abi.device import Device
from llmos.abi.error import Conflict, Fault, LlmosError, ModelNotFound, fault_of
from llmos.abi.frame import Accepted, Job, ModelPath
from llmos.abi.frame import Attach as AttachFrame
from llmos.abi.frame import Stop as StopFrame
from llmos.abi.model import DatasetManifest, Manifest
from llmos.abi.process import Priority, Process, State
from llmos.config import Config
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.admission import dtype_of
from llmos.kernel.calls.router import Router
from llmos.kernel.children.logs import log_path
from llmos.kernel.children.supervisor import Supervisor, slay
from llmos.kernel.processes.process_runtime import CALLED
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.store.store import Store

log = logging.getLogger(__name__)


class Executor:
    """Performs effects. One thread changes the store, in the order of requests."""

    def __init__(
        self,
        config: Config,
        table: ProcessTable,
        store: Store,
        supervisor: Supervisor,
        router: Router,
        assignment: Callable[[Process], Job],
        post: Callable[[ev.Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._table = table
        self._store = store
        self._supervisor = supervisor
        self._router = router
        self._assignment = assignment
        self._post = post
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._store_thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    def perform(self, effect: do.Effect) -> None:
        """Begin this effect; returns at once."""
        match effect:
            case do.Start():
                self._beside(self._start(effect))
            case do.Stop():
                self._supervisor.send(effect.pid, StopFrame(effect.reason))
            case do.Signal():
                self._supervisor.signal(effect.pid, effect.number)
            case do.Renice():
                self._renice(effect.pid, effect.priority)
            case do.SetTimer():
                self._ring_later(effect)
            case do.Commit():
                self._beside(self._commit(effect))
            case do.Accept():
                answer = Accepted(effect.offer_id, effect.ref, effect.folder, effect.fault)
                self._supervisor.send(effect.pid, answer)
            case do.SetPromoted():
                self._beside(self._move(effect))
            case do.ReleaseCalls():
                self._router.became_ready(effect.pid)
            case do.FailCalls(fault=fault):
                self._router.closed(effect.pid, fault)
            case do.Attach():
                self._beside(self._attach(effect))
            case do.Detach():
                self._router.detach(effect.pid, effect.model)
            case do.Refuse():
                self._router.attach_failed(effect.pid, effect.model, effect.fault)
            case do.Clean():
                self._beside(self._clean(effect))
            case do.KillOrphan():
                slay(effect.os_pid, effect.born_at)

    async def close(self) -> None:
        """Wait for effects in progress."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._store_thread.shutdown)

    async def in_store(self, change: Callable[[], Any]) -> Any:  # Any: whatever the change returns
        """Run a change of the store, after those requested before it."""
        return await asyncio.get_running_loop().run_in_executor(self._store_thread, change)

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:  # Any: what a coroutine may be sent, here nothing
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _renice(self, pid: int, priority: Priority) -> None:
        if not self._supervisor.renice(pid, priority):
            self._post(ev.ReniceRefused(self._clock(), pid, priority))

    def _ring_later(self, alarm: do.SetTimer) -> None:
        def ring() -> None:
            self._post(ev.TimerFired(self._clock(), alarm.pid, alarm.life, alarm.step))

        asyncio.get_running_loop().call_later(alarm.after_s, ring)

    async def _start(self, effect: do.Start) -> None:
        pid = effect.pid
        process = self._table.process(pid)
        try:
            assignment = await asyncio.to_thread(self._assignment, process)
            os_pid, born_at = await self._supervisor.fork(
                pid, log_path(self._config.home, pid), process.spec.priority, is_light=assignment.is_light
            )
        except Exception as error:  # noqa: BLE001  # the top of a work beside the loop: it becomes an event
            self._post(ev.StartFailed(self._clock(), pid, _fault(error)))
            return
        self._post(ev.Forked(self._clock(), pid, os_pid, born_at))
        self._supervisor.send(pid, assignment)
        priority, process = process.spec.priority, self._table.process(pid)
        if process.spec.priority is not priority:  # it was requested while the child was being forked
            self._renice(pid, process.spec.priority)
        # it was requested while the child was being forked, and could not be delivered
        if process.state is State.STOPPING:
            self._supervisor.send(pid, StopFrame(process.reason))

    async def _attach(self, effect: do.Attach) -> None:
        pid, model = effect.pid, effect.model
        device = self._table.device(self._table.process(pid).spec.device)
        located: ModelPath | Fault
        try:
            located = await asyncio.to_thread(self._proven, model, device)
        except Exception as error:  # noqa: BLE001  # the top of a work beside the loop: its calls get the fault
            located = _fault(error)
        is_alive = self._table.process(pid).state in CALLED
        if not is_alive or self._table.runtimes[pid].number != effect.life:
            return  # it died meanwhile; the model is requested again after its restart
        if isinstance(located, ModelPath) and not self._store.holds(located.manifest):
            located = fault_of(ModelNotFound(f"{model} was removed just now. See what there is: llmos ls", name=model))
        if isinstance(located, Fault):
            self._router.attach_failed(pid, model, located)
            self._post(ev.Detached(self._clock(), pid, model))
            return
        self._supervisor.send(pid, AttachFrame(located))
        self._router.attached_to(pid, model)

    def _proven(self, model: str, device: Device) -> ModelPath:
        dtype = dtype_of(self._config, device, self._store.resolve(model))
        self._store.prove(model, dtype)
        return self._store.located(model, dtype)

    async def _commit(self, effect: do.Commit) -> None:
        offer_id = effect.offer.offer_id
        try:
            kept = await self.in_store(lambda: self._store.commit(effect.offer, effect.pid, effect.born))
            ref, folder = self._place(kept)
        except Exception as error:  # noqa: BLE001  # the top of a work beside the loop: it becomes an event
            self._post(ev.CommitFailed(self._clock(), effect.pid, offer_id, _fault(error)))
            return
        self._post(ev.Committed(self._clock(), effect.pid, offer_id, ref, folder))

    def _place(self, kept: Manifest | DatasetManifest | str) -> tuple[str, str]:
        match kept:
            case Manifest():
                return kept.ref, self._store.located(kept.ref).folder
            case DatasetManifest():
                return kept.ref, str(self._store.dataset_folder(kept.ref))
            case _:
                return "", kept

    async def _move(self, effect: do.SetPromoted) -> None:
        try:
            await self.in_store(lambda: self._set_promoted(effect))
        except Exception as error:  # noqa: BLE001  # the top of a work beside the loop: it becomes an event
            self._post(ev.PromotionRefused(self._clock(), effect.name, effect.version, effect.ticket, _fault(error)))
            return
        self._post(ev.PromotionChanged(self._clock(), effect.name, effect.version, effect.ticket))

    def _set_promoted(self, move: do.SetPromoted) -> None:
        """Promote a version; repeating it has no effect."""
        present = self._store.promoted(move.name)
        if move.back_from is not None:
            if present == move.back_from:
                self._store.rollback(move.name)
            return
        present_ref = None if present is None else f"{move.name}:{present}"
        if move.guarded and present != move.version and present_ref != move.against:
            raise Conflict(
                f"{move.name}:{move.version} stays a candidate: it was compared with {move.against or 'nothing'}, and "
                f"{present_ref} was promoted meanwhile. Promote it yourself: llmos promote {move.name}:{move.version}",
                name=move.name,
                version=move.version,
            )
        self._store.promote(f"{move.name}:{move.version}")

    async def _clean(self, effect: do.Clean) -> None:
        folder = self._config.home / "scratch" / str(effect.pid)
        try:
            await asyncio.to_thread(shutil.rmtree, folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("the scratch folder %s stays: %s", folder, error)


def _fault(error: Exception) -> Fault:
    if not isinstance(error, LlmosError):
        log.error("beside the loop", exc_info=error)
    return fault_of(error)
