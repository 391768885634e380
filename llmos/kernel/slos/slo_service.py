"""SLOs for the API and the calls: counts calls, looks at the burn rates now and then, and says when a budget burns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from llmos.abi.error import LlmosError, NotFound
from llmos.abi.json_type import Json
from llmos.abi.slo import FAILED, ObjectiveState, Slo, SloState, objectives_of
from llmos.kernel.event_stream import EventStream
from llmos.kernel.slos.burn_rate import objective_state
from llmos.kernel.slos.slo_counts import KeptCounts, SloCounts
from llmos.kernel.store.records import Records

FOLDER = "slos"  # of the home: the counters
LOOK_EVERY_S = 5.0
KEEP_EVERY_S = 60.0
log = logging.getLogger(__name__)


class SloService:
    """The SLOs of `orders`, by the models' names. `write` journals one; one without objectives ends it."""

    def __init__(
        self,
        folder: Path,
        orders: Callable[[], Mapping[str, Slo]],
        write: Callable[[Slo], Awaitable[object]],
        check_name: Callable[[str], object],
        event_stream: EventStream,
        clock: Callable[[], float],
    ) -> None:
        self._orders = orders
        self._write = write
        self._check_name = check_name
        self._event_stream = event_stream
        self._clock = clock
        self._kept: Records[KeptCounts] = Records(folder, KeptCounts)
        self._live: dict[str, LiveSlo] = {}
        self.is_on = False  # whether any call is counted
        self._looked_at = self._kept_at = 0.0
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read the counters; blocks for the disk."""
        self._kept.read()
        self._follow()

    def note(self, ref: str, outcome: str, seconds: float) -> None:
        """Count a call that has ended. Never waits, never raises."""
        live = self._live.get(ref.partition(":")[0])
        if live is not None:
            live.add(outcome, seconds, self._clock())

    async def set(self, name: str, asked: Mapping[str, Json]) -> SloState:
        """Give a name these objectives, in place of others; what was counted for others is forgotten."""
        self._check_name(name)
        objectives = objectives_of(asked)
        before = self._orders().get(name)
        if before is None or before.objectives != objectives:
            await self._write(Slo(name, objectives, self._clock()))
            self._follow()
        return self.get(name)

    async def remove(self, name: str) -> SloState:
        """End the SLO of a name; NotFound if it has none."""
        state = self.get(name)
        await self._write(Slo(name))
        self._follow()
        await asyncio.to_thread(self._kept.remove, _file_of(name))
        return state

    def get(self, name: str) -> SloState:
        """How the SLO of a name stands; NotFound if it has none."""
        live = self._live.get(name)
        if live is None:
            self._check_name(name)
            raise NotFound(f"{name} has no SLO. Set one: llmos slo {name} --p99 50ms --errors 0.1%", name=name)
        return live.state(self._clock())

    def all(self) -> list[SloState]:
        """How every SLO stands, by name."""
        return [self.get(name) for name in sorted(self._live)]

    def tick(self) -> None:
        """Look at those that have counted something, publish what has changed, and keep the counters now and then."""
        now = self._clock()
        if not 0.0 <= now - self._looked_at < LOOK_EVERY_S:  # the clock may be set back
            self._looked_at = now
            for live in self._live.values():
                for changed in live.look(now):
                    self._publish(live.slo.name, changed)
        if not 0.0 <= now - self._kept_at < KEEP_EVERY_S and (self._keeping is None or self._keeping.done()):
            self._kept_at = now
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Keep the counters."""
        if self._keeping is not None:
            await self._keeping
        await self._keep()

    async def _keep(self) -> None:
        due = {name: live.for_file() for name, live in self._live.items() if live.is_changed}

        def write() -> None:
            for name, counts in due.items():
                self._kept.put(_file_of(name), counts)

        try:
            await asyncio.to_thread(write)
        except (LlmosError, OSError) as error:
            log.error("the counters of SLOs are not kept: %s", error)  # the next minute tries again
            for name in due.keys() & self._live.keys():
                self._live[name].is_changed = True

    def _publish(self, name: str, state: ObjectiveState) -> None:
        self._event_stream.publish(
            "slo",
            model=name,
            objective=state.objective,
            severity=state.severity,
            burn_rates=state.burn_rates,
            budget_left=state.budget_left,
        )

    def _follow(self) -> None:
        """The live SLOs are those of the orders; what was counted for the same objectives stays."""
        live = {}
        for name, slo in self._orders().items():
            known = self._live.get(name)
            live[name] = (
                known if known is not None and known.slo == slo else LiveSlo(slo, self._kept.known.get(_file_of(name)))
            )
        self._live, self.is_on = live, bool(live)


def _file_of(name: str) -> str:
    """A model's name as that of a file."""
    return quote(name, safe="")


class LiveSlo:
    """One SLO with its counters."""

    def __init__(self, slo: Slo, kept: KeptCounts | None) -> None:
        self.slo = slo
        self.is_changed = False
        self._counts = SloCounts(len(slo.objectives))
        self._limits = tuple((place, one.limit_s) for place, one in enumerate(slo.objectives, 1))
        self._states: tuple[ObjectiveState, ...] = ()
        if kept is not None and kept.objectives == self._texts():
            self._counts.take_over(kept.minutes, kept.hours)

    def add(self, outcome: str, seconds: float, now: float) -> None:
        """Count a call, unless its caller is to blame for how it ended."""
        is_failed = outcome in FAILED
        if is_failed or outcome == "ok":
            bad = [place for place, limit_s in self._limits if is_failed or 0.0 < limit_s < seconds]
            self._counts.add(now, bad)
            self.is_changed = True

    def look(self, now: float) -> list[ObjectiveState]:
        """Look at the burn rates; returns the objectives whose severity has changed."""
        before, self._states = self._states, self._states_at(now)
        was = [one.severity for one in before] or [""] * len(self._states)
        return [one for one, earlier in zip(self._states, was, strict=True) if one.severity != earlier]

    def state(self, now: float) -> SloState:
        """How it stands now."""
        return SloState(self.slo.name, self.slo.created_at, self._states_at(now))

    def _states_at(self, now: float) -> tuple[ObjectiveState, ...]:
        before = self._states or (None,) * len(self.slo.objectives)
        return tuple(
            objective_state(one, place, self._counts, now, was)
            for place, (one, was) in enumerate(zip(self.slo.objectives, before, strict=True), 1)
        )

    def for_file(self) -> KeptCounts:
        """The counters for the file."""
        self.is_changed = False
        return self._counts.for_file(self._texts())

    def _texts(self) -> tuple[str, ...]:
        return tuple(one.text for one in self.slo.objectives)
