"""A monitor through the kernel with a real child: first calls as reference, a planted drift, a kill in between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from llmos.abi.api_types import StreamEvent
from llmos.abi.call import CallRequest
from llmos.abi.error import Conflict, NotFound
from llmos.abi.process import Priority, State
from llmos.config import Config
from llmos.kernel.kernel import Kernel
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = Store(tmp_path)
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=901)
    add_model(store, "other", "tiny:1", pid=902)
    store.promote("mood:1")
    return tmp_path


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Kernel]:
    box = Kernel(Config(home, engine="null", stop_grace_s=5.0))
    await box.start()
    box.warm()
    try:
        yield box
    finally:
        await box.stop()


async def ask(box: Kernel, chance: random.Random, words: int) -> None:
    """A call as the API makes it, of a random text of about so many words."""
    text = " ".join(f"w{chance.randrange(1000)}" for _ in range(chance.randint(words - 2, words + 2)))
    request = CallRequest("mood:1", (text,), task="classify")
    chunk = await box.calls.answer(request)
    box.monitoring.note("mood:1", request.inputs, chunk, keeps_text=True)


async def first_drift(events: asyncio.Queue[StreamEvent]) -> StreamEvent:
    while (event := await events.get()).kind != "drift":
        pass
    return event


async def watch(box: Kernel, events: asyncio.Queue[StreamEvent]) -> None:
    async with aclosing(box.processes.watch()) as stream:
        async for one in stream:
            events.put_nowait(one)


async def is_ready(box: Kernel) -> None:
    async with aclosing(box.processes.watch()) as stream:
        while True:
            state = await box.monitoring.get("mood")
            if state.pid is not None and box.processes.get(state.pid).state is State.READY:
                return
            await anext(stream)


def test_a_monitor_alarms_of_longer_texts_and_keeps_its_state_through_a_kill(home: Path) -> None:
    async def main() -> None:
        chance, events = random.Random(5), asyncio.Queue[StreamEvent]()
        async with running(home) as box:
            with pytest.raises(NotFound):
                await box.monitoring.get("mood")
            with pytest.raises(Conflict):
                await box.monitoring.start("other")
            watching = asyncio.create_task(watch(box, events))
            started = await box.monitoring.start("mood")
            assert (await box.monitoring.start("mood")).pid == started.pid
            await is_ready(box)
            assert started.pid is not None
            await box.processes.nice(started.pid, Priority.INTERACTIVE)  # a busy machine gives idle classes no time
            for _ in range(800):
                await ask(box, chance, 8)
            async with asyncio.timeout(240):
                while (await box.monitoring.get("mood")).looks == 0:
                    await events.get()
            quiet = await box.monitoring.get("mood")
            assert (quiet.status, quiet.reference, quiet.alarms) == ("quiet", "first calls", ())
            for _ in range(450):
                await ask(box, chance, 30)
            async with asyncio.timeout(240):
                drift = await first_drift(events)
            assert (drift.data["model"], drift.data["is_over"]) == ("mood:1", False)
            assert drift.data["statistic"] > drift.data["threshold"]
            found = await box.monitoring.get("mood")
            assert "length" in {one.signal for one in found.alarms}
            assert found.pid is not None
            os.kill(box.processes.get(found.pid).os_pid or 0, signal.SIGKILL)
            async with asyncio.timeout(240):
                while box.processes.get(found.pid).state is State.READY:
                    await events.get()
                await is_ready(box)
            again = await box.monitoring.get("mood")
            assert (again.pid, len(again.alarms)) == (found.pid, len(found.alarms))
            ended = await box.monitoring.stop("mood")
            assert ended.alarms == again.alarms
            begun = await box.monitoring.start("mood")  # at once, while it may still be about to end
            assert begun.pid is not None
            assert box.processes.get(begun.pid).state in (State.QUEUED, State.STARTING, State.READY)
            watching.cancel()

    asyncio.run(main())
