"""Rollouts for the API and the calls: begins and ends them, routes and observes calls, and posts what is decided."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType

from llmos.abi.call import CallRequest, Chunk
from llmos.abi.disagreement import Disagreement
from llmos.abi.error import BadInput, Conflict, LlmosError, NotFound, TimedOut, error_of
from llmos.abi.json_type import Json
from llmos.abi.model import LATEST, Manifest, split_ref
from llmos.abi.rollout import CANDIDATE, Mode, Rollout, RolloutPlan, RolloutView, plan_of
from llmos.abi.task import spec_of
from llmos.abi.wire import to_plain
from llmos.kernel import events as ev
from llmos.kernel.event_stream import EventStream
from llmos.kernel.loop import Loop
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.rollouts.call_copies import CallCopies
from llmos.kernel.rollouts.comparison import agreement
from llmos.kernel.rollouts.decision import guard_states
from llmos.kernel.rollouts.disagreement_book import DisagreementBook
from llmos.kernel.rollouts.live_rollout import FAULTS, LiveRollout, RoutedVersion
from llmos.kernel.store.store import Store

COUNTED_EVERY_S = 2.0  # the journal gets the tallies at most so often between decisions
Change = ev.RolloutStarted | ev.RolloutStopped | ev.RolloutDecided | ev.PromotionChanged | ev.PromotionRefused


class RolloutService:
    """The rollouts under way, by the model names that calls have. Where there is none, a call costs one look-up."""

    def __init__(
        self,
        table: ProcessTable,
        store: Store,
        loop: Loop,
        event_stream: EventStream,
        answer: Callable[[CallRequest], Awaitable[Chunk]],
        disagreements: DisagreementBook,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._table = table
        self._store = store
        self._loop = loop
        self._event_stream = event_stream
        self._clock = clock
        self._steady = steady
        self._copies = CallCopies(answer)
        self._disagreements = disagreements
        self._by_model: dict[str, LiveRollout] = {}
        self._by_id: dict[str, LiveRollout] = {}
        self._counted_at: dict[str, float] = {}
        self._watchers: set[asyncio.Event] = set()
        self._is_over = False
        self._follow_table()

    # For calls.

    def choose(self, model: str, user: str | None, inputs: Sequence[Json]) -> RoutedVersion | None:
        """The version that a call to this name goes to; None if no rollout of it is under way."""
        live = self._by_model.get(model)
        return None if live is None else live.choose(user, inputs)

    def observe(self, request: CallRequest) -> CallObservation:
        """Watches the call that a rollout has routed, while the block runs."""
        return CallObservation(self, request, self._steady)

    def take_end(
        self, request: CallRequest, chunk: Chunk | None, error: Exception | None, seconds: float | None
    ) -> None:
        """A call has been answered (`chunk`: whole; None: in pieces) or has failed; no `seconds` if it started cold."""
        live = self._by_id.get(request.rollout)
        if live is None:
            return
        live.count_call(request.model, error, seconds)
        if live.wants_copies and error is None:
            other = live.other(request.model)
            self._copies.put(request, other, lambda found: self._compare(request, chunk, other, found))
        self._look(live)

    def observe_feedback(self, name: str, version: int, score: float, answer: str = "") -> bool:
        """Somebody has scored an answer of this version, from 0 (wrong) to 1; whether a rollout has counted it.

        `answer` is the answer's id: of each only the first score counts.
        """
        live = self._by_model.get(name)
        if live is None or not live.count_feedback(version, score, answer):
            return False
        self._look(live)
        return True

    def _compare(self, request: CallRequest, chunk: Chunk | None, other: str, found: Chunk | LlmosError) -> None:
        """A copy has been answered. One that found no time says nothing, nor does a failure of the promoted version."""
        live = self._by_id.get(request.rollout)
        error = found if isinstance(found, LlmosError) else None
        if live is None or isinstance(error, TimedOut):
            return
        is_candidate = live.arm_of(other) == CANDIDATE
        if error is not None and not (is_candidate and isinstance(error, (*FAULTS, BadInput))):
            return
        if is_candidate and live.rollout.plan.mode is Mode.SHADOW:
            live.count_call(other, error, None)
        if chunk is not None and request.task is not None:
            theirs = () if isinstance(found, LlmosError) else found.outputs
            live.count_agreement(agreement(request.task, chunk.outputs, theirs))
            self._disagreements.note(live.rollout, request, other, chunk.outputs, theirs)
        self._look(live)

    def _look(self, live: LiveRollout) -> None:
        """Post what is decided; else let the journal have the tallies now and then."""
        rollout, now = live.rollout, self._steady()
        decided = live.decision()
        if decided is not None:
            live.is_deciding = True
            self._counted_at[rollout.id] = now
            tallies = dict(live.tallies)
            self._loop.post(
                ev.RolloutDecided(
                    self._clock(),
                    rollout.name,
                    rollout.id,
                    rollout.step,
                    decided.verdict,
                    decided.reason,
                    decided.figures,
                    tallies,
                )
            )
        elif now - self._counted_at.get(rollout.id, -COUNTED_EVERY_S) >= COUNTED_EVERY_S:
            self._counted_at[rollout.id] = now
            self._loop.post(ev.RolloutCounted(self._clock(), rollout.name, rollout.id, dict(live.tallies)))

    # For the API.

    async def start(self, name: str, candidate: int, asked: dict[str, Json]) -> RolloutView:
        """Begin one; BadInput or Conflict, with the way out, for what cannot be rolled out. `asked` are plan fields."""
        promoted, manifest = self._versions(name, candidate)
        plan: RolloutPlan = plan_of(spec_of(manifest.task).family, candidate, **asked)
        rollout = Rollout(secrets.token_hex(6), name, promoted.version, plan, self._clock())
        await self._loop.ask(ev.RolloutStarted(self._clock(), rollout))
        return self.get(name)

    async def stop(self, name: str) -> RolloutView:
        """End the one under way: all calls go to the promoted version again. NotFound if there is none."""
        live = self._by_model.get(name)
        tallies = {} if live is None else dict(live.tallies)
        await self._loop.ask(ev.RolloutStopped(self._clock(), name, "stopped by the user", tallies))
        return self.get(name)

    def get(self, name: str) -> RolloutView:
        """The rollout under way, else the last one; NotFound if this name never had one."""
        live, earlier = self._by_model.get(name), self._table.ended_rollouts.get(name, ())
        if live is not None:
            rollout = live.present
            told = self._disagreements.state(rollout)
            return RolloutView(rollout, guard_states(rollout), dict(self._copies.counts), earlier, told)
        if not earlier:
            self._store.found(name)
            raise NotFound(f"{name} has had no rollout. Begin one: llmos rollout {name} --candidate N", name=name)
        last, told = earlier[0], self._disagreements.state(earlier[0])
        return RolloutView(last, guard_states(last), earlier=earlier[1:], disagreements=told)

    async def disagreements(self, name: str, user: str, limit: int) -> list[Disagreement]:
        """The newest texts on which versions of this name disagreed, and of this user where one is named."""
        self._store.found(name)
        return await self._disagreements.find(name, user, limit)

    async def watch(self, name: str) -> AsyncGenerator[RolloutView, None]:
        """The view now, and after each change, until the rollout has ended."""
        rollout_id, changed = self.get(name).rollout.id, asyncio.Event()
        self._watchers.add(changed)
        try:
            while not self._is_over:
                changed.clear()
                view = self.get(name)
                yield view
                if view.rollout.is_ended or view.rollout.id != rollout_id:
                    return
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    def _versions(self, name: str, candidate: int) -> tuple[Manifest, Manifest]:
        """The promoted version and the candidate."""
        if split_ref(name)[1] is not None or name.endswith(f":{LATEST}"):
            raise BadInput(f"A rollout is of a bare name: {name.partition(':')[0]}", name=name)
        self._store.found(name)
        if self._store.promoted(name) is None:
            raise Conflict(
                f"No version of {name} is promoted, so that there is nothing to compare with. Promote one: "
                f"llmos promote {name}:{candidate}",
                name=name,
            )
        promoted, manifest = self._store.resolve(name), self._store.resolve(f"{name}:{candidate}")
        if manifest.version == promoted.version:
            raise BadInput(
                f"{manifest.ref} is promoted already. Name another version as the candidate (llmos ls)", key="candidate"
            )
        if manifest.task != promoted.task:
            raise BadInput(
                f"{manifest.ref} is for {manifest.task}, and {promoted.ref} for {promoted.task}. Both must do the same",
                key="candidate",
            )
        return promoted, manifest

    # For the kernel.

    def follow_event(self, event: Change) -> None:
        """The table has taken an event: follow it, and tell the watchers."""
        name = event.rollout.name if isinstance(event, ev.RolloutStarted) else event.name
        was = self._by_model.get(name)
        self._follow_table()
        now = self._by_model.get(name)
        if was is None and now is None:
            return
        shown = now.present if now is not None else self._table.ended_rollouts[name][0]
        self._event_stream.publish("rollout", rollout=to_plain(shown))
        for watcher in self._watchers:
            watcher.set()

    async def close(self) -> None:
        """End the copies and every watch, and give the tallies to the journal."""
        self._is_over = True
        for watcher in self._watchers:
            watcher.set()
        await self._copies.close()
        for live in self._by_id.values():
            counted = ev.RolloutCounted(self._clock(), live.rollout.name, live.rollout.id, dict(live.tallies))
            await self._loop.ask(counted)

    def _follow_table(self) -> None:
        """The live rollouts are those of the table; what they have counted stays."""
        by_id: dict[str, LiveRollout] = {}
        for rollout in self._table.rollouts.values():
            live = by_id[rollout.id] = self._by_id.get(rollout.id) or LiveRollout(rollout)
            if live.rollout is not rollout:
                live.take_over(rollout)
        self._by_id = by_id
        self._by_model = {name: one for one in by_id.values() for name in _names(one.rollout)}


class CallObservation:
    """One routed call: its time, and its answer or its error."""

    __slots__ = ("_chunk", "_is_cold", "_is_over", "_request", "_service", "_started", "_steady")

    def __init__(self, service: RolloutService, request: CallRequest, steady: Callable[[], float]) -> None:
        self._service = service
        self._request = request
        self._steady = steady
        self._chunk: Chunk | None = None
        self._is_over = self._is_cold = False

    def __enter__(self) -> CallObservation:
        self._started = self._steady()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_over or isinstance(error, Exception):
            given = error if isinstance(error, Exception) else None
            if given is None and self._chunk is not None and self._chunk.fault is not None:
                given, self._chunk = error_of(self._chunk.fault), None
            seconds = None if self._is_cold else self._steady() - self._started
            self._service.take_end(self._request, self._chunk, given, seconds)

    def put(self, chunk: Chunk, *, is_whole: bool) -> Chunk:
        """The answer, or the next piece of it. A call whose client leaves before the last is not counted."""
        self._is_over = chunk.is_last
        self._is_cold = chunk.times is not None and chunk.times.is_cold
        self._chunk = chunk if is_whole or chunk.fault is not None else None
        return chunk


def _names(rollout: Rollout) -> tuple[str, str]:
    return rollout.name, f"{rollout.name}:{LATEST}"
