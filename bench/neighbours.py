"""What a caller of one text waits beside bulk calls on the same base: the worst, for mixes of sizes and priorities."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from bench.box import Box
from bench.clients import Connection
from bench.record import Figure, Record, Target
from bench.stop import Stop

WORST = Target(0.5, at_most=True)
BEGIN_S = 1.0  # bulk calls are in hand before the neighbour comes
PAUSE_S = 0.02  # between two calls of the neighbour
SAID = "the parcel was sent to our house last week and nobody has seen it since then please tell me where it is"
LEAST = 3  # calls of the neighbour that a figure needs


@dataclass(frozen=True, slots=True)
class Mix:
    """Bulk calls at the same time: how many inputs each, of how many words, of which priorities."""

    inputs: int
    words: int
    priorities: tuple[str, ...]

    @property
    def name(self) -> str:
        each = " + ".join(
            f"{self.priorities.count(priority)} {priority}" for priority in dict.fromkeys(self.priorities)
        )
        return f"worst wait beside {each} of {self.inputs:,} x {self.words} words"


MIXES = (
    *(
        Mix(inputs, words, (priority,))
        for words in (60, 250)
        for inputs in (2047, 2048)
        for priority in ("interactive", "background")
    ),
    Mix(512, 250, ("interactive",) * 5),
    Mix(2048, 60, ("background", "batch", "interactive")),
)


def measure(home: Path, *, seconds: float, mode: str) -> Record:
    """Each mix for so many seconds at most: bulk calls that last longer are taken back."""
    with Box(home) as box:
        box.base("minilm")
        quiet = _waits(box, (), seconds=3.0)
        found = [(mix, _waits(box, _bulk(mix), seconds)) for mix in MIXES]
        dtype = box.device()["dtype"]
    figures = (
        Figure("worst wait alone", max(quiet), "s", min(quiet), max(quiet), note=f"{len(quiet)} calls"),
        *(
            Figure(mix.name, max(waits), "s", min(waits), max(waits), WORST, f"{len(waits)} calls")
            for mix, waits in found
        ),
    )
    return Record("neighbours", mode, {"dtype": dtype, "seconds": seconds, "neighbour": "interactive"}, figures)


def _bulk(mix: Mix) -> list[dict[str, object]]:
    chance = random.Random(mix.words)
    texts = [" ".join(chance.choices(SAID.split(), k=mix.words)) for _ in range(mix.inputs)]
    said = {"model": "minilm", "inputs": texts, "params": {"encoding": "base64"}}
    return [{**said, "priority": priority} for priority in mix.priorities]


def _waits(box: Box, bulk: Sequence[dict[str, object]], seconds: float) -> list[float]:
    """The seconds of each call of the neighbour while a bulk call was under way, or for so long where there is none."""
    over, waits = Event(), list[float]()
    connection = Connection(box.url)
    _ask_one(connection)  # the process is there
    with ThreadPoolExecutor(max(1, len(bulk))) as pool:
        work = [pool.submit(_ask_many, box.url, body, seconds) for body in bulk]
        over.wait(BEGIN_S if bulk else 0.0)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until and (not bulk or not all(one.done() for one in work)):
            waits.append(_ask_one(connection))
            over.wait(PAUSE_S)
        for one in work:
            one.result()
    if len(waits) < LEAST:
        raise Stop(f"The neighbour was answered {len(waits)} times: the bulk calls are too small for this machine")
    return waits


def _ask_one(connection: Connection) -> float:
    start = time.perf_counter()
    connection.ask("POST", "/v1/tasks/embed", {"model": "minilm", "input": "Where is my parcel?"})
    return time.perf_counter() - start


def _ask_many(url: str, body: dict[str, object], seconds: float) -> None:
    try:
        Connection(url).ask("POST", "/v1/tasks/embed", {**body, "timeout_s": BEGIN_S + seconds})
    except Stop as stop:
        if "timed_out" not in str(stop):
            raise
