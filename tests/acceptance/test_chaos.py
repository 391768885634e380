"""kill -9 and SIGSTOP at random, under load: serve processes, the zygote, a trainer, the daemon itself.

`make chaos` goes 20 rounds; LLMOS_CHAOS_ROUNDS and LLMOS_CHAOS_SEED say how many and which.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Event

import psutil
import pytest
from conftest import CLOSE, House, computed_in, family, is_alive, is_hit, pulled

from llmos import Client
from llmos.abi.error import LlmosError
from llmos.abi.process import Process, State
from llmos.home import children_of, daemon_of

pytestmark = [pytest.mark.acceptance, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ROUNDS = int(os.environ.get("LLMOS_CHAOS_ROUNDS", "4"))
SEED = int(os.environ.get("LLMOS_CHAOS_SEED", str(random.SystemRandom().randrange(10_000))))
THREADS = 4
TEXTS = [f"parcel number {i} was {word}" for i, word in enumerate(("late", "lovely", "broken", "kind", "missing"))]
SETTINGS = {"LLMOS_HEARTBEAT_TIMEOUT_S": "3"}
PASSING = (
    "unavailable",
    "process_died",
)  # what a client tries again: nobody listens just now, or three deaths in a row
PATIENCE_S = 240.0


class Load:
    """Clients that ask all the time, and compare each answer with what it was before anything was disturbed."""

    def __init__(self, url: str, expected: dict[str, list[float]], close: float) -> None:
        self._url = url
        self._expected = expected
        self._close = close
        self._is_over = Event()
        self._changed = Condition()
        self._answered = [0] * THREADS
        self.pool = ThreadPoolExecutor(THREADS)
        self._asking = [self.pool.submit(self._ask, number) for number in range(THREADS)]

    def _ask(self, number: int) -> None:
        chance = random.Random(number)
        try:
            while not self._is_over.is_set():
                text = chance.choice(TEXTS)
                try:
                    with Client(self._url) as box:
                        vector = box.run("minilm", text).vector
                except LlmosError as error:
                    if error.code not in PASSING:
                        raise
                    self._is_over.wait(0.05)
                    continue
                assert vector == pytest.approx(self._expected[text], abs=self._close), text
                with self._changed:
                    self._answered[number] += 1
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._changed.notify_all()

    def answer_again(self) -> None:
        """Wait until every client has asked anew and been answered: two answers, for one may have been on its way."""
        with self._changed:
            goal = [count + 2 for count in self._answered]
            is_there = self._changed.wait_for(lambda: self._has_failed() or self._are_there(goal), PATIENCE_S)
        self.check()
        assert is_there, f"{goal} were to be answered, {self._answered} are"

    def check(self) -> None:
        """Raises what a client has met."""
        for asking in self._asking:
            if asking.done():
                asking.result()

    def close(self) -> None:
        self._is_over.set()
        for asking in self._asking:
            asking.result(PATIENCE_S)
        self.pool.shutdown()

    def _has_failed(self) -> bool:
        return any(asking.done() for asking in self._asking)

    def _are_there(self, goal: list[int]) -> bool:
        return all(count >= wanted for count, wanted in zip(self._answered, goal, strict=True))


def alive(box: Client, program: str) -> Process | None:
    return next((p for p in box.processes() if p.spec.program is program and p.os_pid is not None), None)


def serve(house: House, number: int) -> None:
    with house.client() as box:
        process = alive(box, "serve")
    is_hit(process and process.os_pid, number)


def zygote(house: House, number: int) -> None:
    is_hit(next((one for one in children_of(house.home) if os.getsid(one) == one), None), number)


def trainer(house: House, number: int) -> None:
    """What was killed is interrupted, what was stopped does not respond: both go on when they are told to."""
    with house.client() as box:
        process = alive(box, "train")
        if process is None:
            return
        is_hit(process.os_pid, number)
        for stream_event in box.watch(process.pid):
            now = stream_event.process
            if now is not None and (now.is_ended or now.unresponsive_since is not None):
                break
        box.resume(process.pid)


def daemon(house: House, number: int) -> None:
    """Killed it is started again; stopped it is ended first, as a user would."""
    found = daemon_of(house.home)
    assert found is not None
    with found:
        is_hit(found.os_pid, number)
        if number == signal.SIGSTOP:
            done = house("down", **SETTINGS)
            assert done.returncode == 0, done.stderr
        assert found.has_ended(PATIENCE_S)
    done = house("up", **SETTINGS)
    assert done.returncode == 0, done.stderr
    with house.client() as box:
        for process in box.processes():
            if process.spec.program == "train" and process.state is State.INTERRUPTED:
                box.resume(process.pid)


VICTIMS: tuple[Callable[[House, int], None], ...] = (serve, zygote, trainer, daemon)


def plan(rounds: int, chance: random.Random) -> list[tuple[Callable[[House, int], None], int]]:
    """Each kind of victim once before any comes again."""
    victims: list[Callable[[House, int], None]] = []
    while len(victims) < rounds:
        victims += chance.sample(VICTIMS, len(VICTIMS))
    return [(victim, chance.choice((signal.SIGKILL, signal.SIGSTOP))) for victim in victims[:rounds]]


def test_rounds_of_kill_and_stop_under_load_end_with_right_answers_and_no_orphan(new_house, tmp_path):
    house = new_house
    rounds = plan(ROUNDS, random.Random(SEED))
    print(f"seed {SEED}: {', '.join(f'{signal.Signals(number).name} {victim.__name__}' for victim, number in rounds)}")
    assert house("up", **SETTINGS).returncode == 0
    pulled(house, "minilm")
    with house.client() as box:
        expected = {text: box.run("minilm", text).vector for text in TEXTS}
        box.train("classify", data=rows(tmp_path), name="mood", epochs=500, checkpoint_every_s=0.5, wait=False)
    close = max(1e-4, CLOSE[computed_in(house)])
    load = Load(house.url, expected, close)
    seen: set[psutil.Process] = set()
    try:
        load.answer_again()
        for victim, number in rounds:
            seen |= family(house)
            began = time.monotonic()
            victim(house, number)
            load.answer_again()
            took_s = time.monotonic() - began
            print(f"{signal.Signals(number).name} {victim.__name__}: answered again after {took_s:.1f} s", flush=True)
    finally:
        load.close()
    with house.client() as box:
        for process in box.processes():
            if process.spec.program == "train":
                assert process.state is not State.EXITED, process
                box.kill(process.pid, force=True)
                for _ in box.watch(process.pid):
                    pass
        for text in TEXTS:
            assert box.run("minilm", text).vector == pytest.approx(expected[text], abs=close)
        status = box.status()
        holders = {lease.pid for lease in status.leases}
        assert (status.in_flight, holders) == (0, {p.pid for p in box.processes() if p.os_pid is not None})
        assert box.verify().damages == ()
    seen |= family(house)
    well = {one["name"]: one["is_well"] for one in house.json("doctor")}
    assert (well["daemon"], well["home"]) == (True, True)
    assert house("down").returncode == 0
    assert (daemon_of(house.home), children_of(house.home)) == (None, [])
    assert [process for process in seen if is_alive(process)] == []


def rows(folder):
    lines = [f"parcel {i} was {('lovely', 'late')[i % 2]} today,{('praise', 'blame')[i % 2]}" for i in range(60)]
    path = folder / "rows.csv"
    path.write_text("\n".join(["text,label", *lines]))
    return path
