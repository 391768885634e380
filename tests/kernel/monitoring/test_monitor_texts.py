"""What a monitor has found stays when it ends, without texts of calls; a start forgets what a kill has left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llmos.abi.error import NotFound
from llmos.abi.monitoring import FOLDER, REPORT, STATE, DriftAlarm, MonitorState
from llmos.abi.process import Priority, Process, Spec, State
from llmos.abi.wire import from_json, to_json
from llmos.config import Config
from llmos.kernel.kernel import Kernel
from llmos.kernel.monitoring.monitor_service import MONITOR, folder_of, forget_texts
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

FOUND = MonitorState(
    "mood",
    "mood:1",
    "drift",
    looks=3,
    texts=(("a text", 0.9),),
    alarms=(DriftAlarm(1.0, "mood:1", "length", 2, 1, 0.0),),
)


def state_in(home: Path) -> MonitorState:
    return from_json((folder_of(home / FOLDER, "mood") / STATE).read_bytes(), MonitorState)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose monitor of `mood` has found a drift."""
    store = Store(tmp_path)
    add_base(store)
    store.promote(add_model(store, "mood", "tiny:1", pid=901).ref)
    folder = folder_of(tmp_path / FOLDER, "mood")
    folder.mkdir(parents=True)
    (folder / STATE).write_bytes(to_json(FOUND))
    (folder / REPORT).write_text("<p>a text</p>")
    return tmp_path


def has_text(home: Path) -> bool:
    return any(b"a text" in one.read_bytes() for one in (home / FOLDER).rglob("*") if one.is_file())


def test_texts_go_and_all_else_stays(home: Path) -> None:
    forget_texts(folder_of(home / FOLDER, "mood"))
    assert (state_in(home).alarms, state_in(home).looks, has_text(home)) == (FOUND.alarms, 3, False)
    forget_texts(folder_of(home / FOLDER, "mood"))
    assert state_in(home).looks == 3


def test_a_folder_without_a_state_or_with_a_damaged_one_is_passed_over(home: Path) -> None:
    forget_texts(folder_of(home / FOLDER, "other"))
    (folder_of(home / FOLDER, "mood") / STATE).write_bytes(b"{")
    forget_texts(folder_of(home / FOLDER, "mood"))
    assert not (folder_of(home / FOLDER, "mood") / REPORT).exists()


def test_a_start_forgets_the_texts_of_monitors_that_have_ended(home: Path) -> None:
    async def main() -> None:
        box = Kernel(Config(home, engine="null", stop_grace_s=5.0))
        await box.start()
        try:
            assert not has_text(home)
            assert (await box.monitoring.get("mood")).alarms == FOUND.alarms
            with pytest.raises(NotFound) as none:
                await box.monitoring.report("mood")
            assert "llmos monitor mood --on" in none.value.message
        finally:
            await box.stop()

    asyncio.run(main())


def test_the_end_of_a_monitor_forgets_its_texts(home: Path) -> None:
    async def main() -> None:
        box = Kernel(Config(home, engine="null", stop_grace_s=5.0))
        await box.start()
        try:
            folder = folder_of(home / FOLDER, "mood")
            (folder / STATE).write_bytes(to_json(FOUND))
            (folder / REPORT).write_text("<p>a text</p>")
            spec = Spec(MONITOR, {"model": "mood"}, priority=Priority.BACKGROUND)
            box.monitoring.look(Process(1, spec, State.INTERRUPTED))
            box.monitoring.look(Process(1, spec, State.EXITED))
        finally:
            await box.stop()
        assert not has_text(home)
        assert state_in(home).alarms == FOUND.alarms

    asyncio.run(main())
