"""The model registry: looks up, promotes, rolls back and removes models and datasets for the API."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from shutil import rmtree
from typing import Any

from llmos.abi.api_types import Damage, DiskUse, ModelView, Verified
from llmos.abi.capability import capabilities_of
from llmos.abi.engine import engine_of
from llmos.abi.error import BadInput, Conflict, LlmosError, NotFound, error_of
from llmos.abi.gate import DEFAULT_POLICY, METRIC, Gate, GatePolicy, gate_policy
from llmos.abi.json_type import Json
from llmos.abi.labelling import LabellingState
from llmos.abi.model import DatasetManifest, Manifest, check_name, split_ref
from llmos.abi.process import Process, State
from llmos.abi.row_id import RowHmac, fold_text
from llmos.abi.row_outcome import PREDICTIONS
from llmos.abi.wire import to_plain
from llmos.kernel import events as ev
from llmos.kernel.calls.router import Router
from llmos.kernel.children import cleanup
from llmos.kernel.dataset_page import read_dataset_page
from llmos.kernel.event_stream import EventStream
from llmos.kernel.loop import Loop
from llmos.kernel.processes.process_runtime import ALIVE
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.programs import traits_of
from llmos.kernel.programs.queue_data import VECTORS
from llmos.kernel.programs.retraining import labelling_state
from llmos.kernel.programs.superseded import ROLLBACK
from llmos.kernel.programs.weak_label_data import answers_referred
from llmos.kernel.store.evaluations import evaluated_datasets, find_predictions
from llmos.kernel.store.store import Store

log = logging.getLogger(__name__)


class Registry:
    """Promotions go through the loop; all other changes of the store run in its own thread (`in_store`)."""

    def __init__(
        self,
        table: ProcessTable,
        store: Store,
        router: Router,
        loop: Loop,
        event_stream: EventStream,
        *,
        home: Path,
        engine: str,
        in_store: Callable[[Callable[[], Any]], Awaitable[Any]],  # Any: whatever the change returns
        kill: Callable[[int], Awaitable[Process]],
        journal_damage: Callable[[], str],
        unreached: Callable[[], Collection[str]],
        follow_suites: Callable[[GatePolicy], GatePolicy],
        forget: Callable[[str], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._store = store
        self._router = router
        self._loop = loop
        self._event_stream = event_stream
        self._home = home
        self._engine = engine
        self._in_store = in_store
        self._kill = kill
        self._journal_damage = journal_damage
        self._unreached = unreached  # dtypes of resident forms that nothing here computes in
        self._follow_suites = follow_suites  # to the files that they lead to, which requests may name
        self._forget = forget  # what is kept of a name that has no version any more
        self._clock = clock
        self._moving: dict[str, asyncio.Future[None]] = {}

    # Models.

    def all(self) -> list[ModelView]:
        return [self._view(manifest) for manifest in self._store.manifests()]

    def get(self, ref: str) -> ModelView:
        return self._view(self._store.found(ref))

    def file(self, ref: str, path: str) -> str:
        return str(self._store.file(ref, path))

    def predictions(self, ref: str, evaluation: int | None = None) -> tuple[str, int | None]:
        manifest = self._store.found(ref)
        if evaluation is None and any(file.path == PREDICTIONS for file in manifest.files):
            return str(self._store.file(manifest.ref, PREDICTIONS)), None
        found = find_predictions(self._home / "evaluations", manifest, evaluation)
        if found is None:
            raise NotFound(
                f"{manifest.ref} has no predictions by row: it was made before they were kept, or never measured. Make "
                f"them: llmos eval {manifest.ref} --data ROWS",
                model=manifest.ref,
                path=PREDICTIONS,
            )
        return str(found[0]), found[1]

    def check_reports(self, ref: str, evaluation: int | None = None) -> tuple[str, ...]:
        refs = evaluated_datasets(self._home / "evaluations", self._store.found(ref), evaluation)
        return tuple(str(self._home / "checks" / one) for one in refs)

    async def promote(self, ref: str) -> ModelView:
        manifest = self._store.resolve(ref)
        return await self._move(manifest.name, manifest.version)

    async def rollback(self, name: str) -> ModelView:
        name, version = split_ref(name)
        if version is not None:
            raise BadInput(f"rollback takes the bare name: llmos rollback {name}", name=name)
        self._store.found(name)
        history = self._store.promotions(name)
        if len(history) < 2:
            raise Conflict(
                f"{name} has no version promoted before this one. Name one: llmos promote {name}:VERSION", name=name
            )
        return await self._move(name, history[-2], back_from=history[-1])

    def gate(self, name: str) -> Gate:
        policy = self._table.gate_policy(check_name(name))
        return Gate(name, policy.require, policy.margin, name not in self._table.gate_policies)

    async def set_gate(self, name: str, require: Sequence[str] | None, margin: float | None) -> Gate:
        before = self._table.gate_policy(check_name(name))
        wanted = before.require if require is None else require
        policy = gate_policy(wanted, before.margin if margin is None else margin)
        self._check_metrics(name, policy)
        policy = await asyncio.to_thread(self._follow_suites, policy)
        return await self._change_gate(name, policy, is_own=True)

    async def reset_gate(self, name: str) -> Gate:
        return await self._change_gate(check_name(name), DEFAULT_POLICY)

    async def _change_gate(self, name: str, policy: GatePolicy, *, is_own: bool = False) -> Gate:
        await self._loop.ask(ev.GatePolicyChanged(self._clock(), name, policy, is_own))
        return self.gate(name)

    def _check_metrics(self, name: str, policy: GatePolicy) -> None:
        """Metrics that the name's versions do not have are mistyped; of a name without versions nothing is known."""
        known = {
            metric: None
            for manifest in self._store.manifests()
            if manifest.name == name
            for metric in manifest.evidence.get("metrics", {})
        }
        for one in policy.requirements:
            if known and one.kind == METRIC and one.subject not in known:
                near = ", ".join(get_close_matches(one.subject, known))
                hint = f"near: {near}" if near else f"there are: {', '.join(known)}"
                raise BadInput(f"{name} has no metric {one.subject} ({hint})", key="require")

    async def remove(self, ref: str, keep_promoted: int = 0) -> list[str]:
        self._check_unused(ref)
        removed: list[str] = await self._in_store(lambda: self._store.remove(ref, keep_promoted))
        for one in removed:
            for pid in self._router.forget(one):
                self._loop.post(ev.Displaced(self._clock(), pid, one, "removed from the store"))
            self._event_stream.publish("removed", model=one)
            for process in self._serving(one):
                await self._kill(process.pid)
        for name in {one.partition(":")[0] for one in removed} - {one.name for one in self._store.manifests()}:
            await self._forget(name)
        return removed

    async def remove_superseded(self, refs: Sequence[str]) -> list[str]:
        """Remove these candidates and their blobs; those that calls or processes use stay until the next time.

        One that was promoted since it was chosen stays.
        """
        removed: list[str] = []
        for ref in refs:
            if self._router.is_called(ref):
                continue
            try:
                removed += await self.remove(ref, keep_promoted=ROLLBACK)
            except LlmosError as error:
                log.info("the superseded candidate %s stays: %s", ref, error.message)
        if removed:
            log.info("removed, because newer candidates of the same labelling are here: %s", ", ".join(removed))
            unreached = self._unreached()
            await self._in_store(lambda: self._store.collect(unreached))
        return removed

    def moved(self, event: ev.PromotionChanged | ev.PromotionRefused) -> None:
        """A promotion has ended: tell the caller who waits for it."""
        if isinstance(event, ev.PromotionChanged):
            self._event_stream.publish("promoted", model=f"{event.name}:{event.version}")
        self._answer(event.ticket, error_of(event.fault) if isinstance(event, ev.PromotionRefused) else None)

    async def _move(self, name: str, version: int, back_from: int | None = None) -> ModelView:
        ticket = secrets.token_hex(8)
        done = self._moving[ticket] = asyncio.get_running_loop().create_future()
        try:
            await self._loop.ask(ev.PromotionAsked(self._clock(), name, version, ticket, back_from))
            await done
        finally:
            self._moving.pop(ticket, None)
        return self.get(name)

    def _answer(self, ticket: str, error: LlmosError | None) -> None:
        done = self._moving.get(ticket)
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def _view(self, manifest: Manifest) -> ModelView:
        is_promoted = self._store.promoted(manifest.name) == manifest.version
        engine = engine_of(manifest, None, self._engine)
        rollout = self._table.rollouts.get(manifest.name)
        under_way = "" if rollout is None else rollout.part_of(manifest.version)
        is_attached = self._router.is_attached(manifest.ref)
        return ModelView(manifest, is_promoted, is_attached, engine, self._able(manifest, engine), under_way)

    def _able(self, manifest: Manifest, engine: str) -> tuple[str, ...]:
        """The tasks that a call may use; none for a model whose base cannot be read."""
        try:
            base = None if manifest.base is None else self._store.found(manifest.base)
        except LlmosError:
            return ()
        return capabilities_of(manifest, engine, base)

    def _check_unused(self, ref: str) -> None:
        name = ref.partition(":")[0]
        rollout = self._table.rollouts.get(name)
        if rollout is not None and ref in (name, rollout.candidate_ref, rollout.promoted_ref):
            raise Conflict(
                f"{ref} is in a rollout ({rollout.summary}). End it first: llmos rollout {name} --stop", name=name
            )
        for process in self._table.processes.values():
            args = process.spec.args
            is_user = traits_of(process.spec.program).uses_models and not process.is_ended
            if is_user and any(_is_of(one, ref) for one in _models_in(args)):
                raise Conflict(
                    f"{ref} is in use by process {process.pid} ({process.spec.title}). Wait for it, or: llmos kill "
                    f"{process.pid}",
                    name=name,
                )

    def _using(self, base: str) -> list[Process]:
        """The processes that have this base open, or a model on it, and that must not be restarted for it."""
        return [
            process
            for process in self._table.processes.values()
            if traits_of(process.spec.program).uses_models and process.state in ALIVE and self._base_of(process) == base
        ]

    def _base_of(self, process: Process) -> str:
        ref = process.spec.args.get("base") or process.spec.args.get("model")
        with suppress(LlmosError):
            manifest = self._store.found(str(ref))
            return manifest.base or manifest.ref
        return ""

    def _serving(self, base: str) -> list[Process]:
        return [
            process
            for process in self._table.processes.values()
            if traits_of(process.spec.program).answers_calls
            and process.spec.args["base"] == base
            and process.state not in (State.EXITED, State.STOPPING)
        ]

    # Datasets, and the disk that all of it lies on.

    def datasets(self) -> list[DatasetManifest]:
        return self._store.datasets()

    def dataset(self, ref: str) -> DatasetManifest:
        return self._store.dataset(ref)

    async def dataset_rows(self, ref: str, split: str | None, start: int, limit: int) -> dict[str, Json]:
        manifest = self._store.dataset(ref)
        question = {
            "folder": str(self._store.dataset_folder(manifest.ref)),
            "manifest": to_plain(manifest),
            "key": await self._in_store(self._store.row_key),
            "split": split,
            "start": start,
            "limit": limit,
        }
        return await read_dataset_page(question)

    def dataset_check(self, ref: str) -> tuple[str, str]:
        found = self._store.dataset(ref).ref
        return found, str(self._home / "checks" / found)

    def labelling(self, ref: str, model: str | None, retrain: int | None) -> LabellingState:
        processes = list(self._table.processes.values())
        return labelling_state(self._store.dataset(ref), model, retrain, self._store, processes)

    async def row_ids(self, texts: Sequence[str]) -> list[str]:
        key: str = await self._in_store(self._store.row_key)
        hmac = RowHmac(bytes.fromhex(key))
        return [hmac.id_of(fold_text(text)) for text in texts]

    async def remove_dataset(self, ref: str) -> list[str]:
        removed: list[str] = await self._in_store(lambda: self._store.remove_dataset(ref))
        names = {one.partition("@")[0] for one in removed} - {one.name for one in self._store.datasets()}
        for name in names:
            await asyncio.to_thread(rmtree, self._home / VECTORS / name, ignore_errors=True)
        return removed

    async def collect(self) -> int:
        (known, ended), last_pid, returning = self._pids(), self._table.last_pid, self._table.returning()
        unreached = self._unreached()
        freed: int = await self._in_store(lambda: self._store.collect(unreached))
        freed += await asyncio.to_thread(cleanup.sweep_ended, self._home, returning, last_pid)
        answers = answers_referred(self._store, self._table.processes.values())
        return freed + await asyncio.to_thread(cleanup.collect, self._home, known, ended, self._clock(), answers)

    async def disk_use(self) -> DiskUse:
        use = await asyncio.to_thread(self._store.disk_use, self._unreached())
        known, ended = self._pids()
        answers = answers_referred(self._store, self._table.processes.values())
        left = await asyncio.to_thread(cleanup.collectable, self._home, known, ended, self._clock(), answers)
        sizes = sum(size_bytes for _, size_bytes in left)
        return replace(use, reclaimable_bytes=use.reclaimable_bytes + sizes)

    def _pids(self) -> tuple[frozenset[int], frozenset[int]]:
        """The pids of all processes, and of those that have ended."""
        processes = self._table.processes
        return frozenset(processes), frozenset(pid for pid, process in processes.items() if process.is_ended)

    async def verify(self) -> Verified:
        """Verify the store and the journal. A serve process that maps damaged files is restarted."""
        verified = await asyncio.to_thread(self._store.examine)
        said = await asyncio.to_thread(self._journal_damage)
        self.restart_mended()
        damages = (Damage("journal", "journal.db", said),) if said else ()
        return replace(verified, damages=(*verified.damages, *damages))

    def restart_mended(self) -> None:
        """Restart serve processes whose base's files were replaced, because they map the old ones; their calls are
        answered first.

        Trainings and evaluations continue with the bytes they have read, which is logged.
        """
        for base in self._store.drain_mended():
            for process in self._serving(base):
                self._loop.post(ev.RestartAsked(self._clock(), process.pid, f"{base} was damaged and is mended"))
            for process in self._using(base):
                log.warning(
                    "process %d (%s) goes on with the bytes of %s that it read before they were mended; run it again "
                    "if they were damaged when it began",
                    process.pid,
                    process.spec.program,
                    base,
                )


def _models_in(args: Mapping[str, Json]) -> list[str]:
    """The models of the store that a process works with, by its arguments."""
    named = [args.get(word) for word in ("base", "model", "teacher")]
    return [one for one in (*named, *(args.get("refs") or {}).values()) if isinstance(one, str)]


def _is_of(used: str, ref: str) -> bool:
    return used == ref or (":" not in ref and used.partition(":")[0] == ref)
