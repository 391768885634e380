"""What all that watches a call costs the daemon: processor time of a call with everything on, less that with all off.

Daemons of each kind run side by side and take turns, so that what slows one round slows all of it. The processor's time
is the kernel's own clock of the process: of all its threads, in nanoseconds. Nothing here goes by the wall clock.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from bench.box import Box, until
from bench.hammer import hammer, request
from bench.record import Figure, Record, Target, figure
from bench.stop import Stop
from llmos.abi.json_type import Json
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

TARGET_MS = 0.1
WARM_CALLS = 500
MODEL = "mood"
ROUTE = "/v1/tasks/classify"
TEXT = "You charged me twice for the same order, and nobody answers the phone."
OFF = "everything off"
KEY = {  # a key with every limit, none of which is met
    "--scope": "infer",
    "--model": f"{MODEL}*",
    "--expires": "30d",
    "--requests-per-minute": "10000000",
    "--requests-per-day": "100000000",
    "--tokens-per-minute": "1000000000",
    "--tokens-per-day": "100000000000",
    "--concurrency": "512",
}
RULES = """
[rules.failing]
when = 'errors("mood", 5m) > 0.5 and calls("mood", 5m) >= 100'
for = "2m"

[rules.slow]
when = 'latency("mood", 0.99, 5m) > 30'

[rules.refused]
when = 'events("rollout", 1h, rollout.stage="rolled_back") > 0'
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A daemon with these settings; with a key that has every limit, a monitor, an SLO and alerts if it `watches`."""

    name: str
    settings: tuple[str, ...]
    watches: bool


WAYS = (
    Way(OFF, ("recent_calls_bytes=0",), watches=False),
    Way("everything on, the log without text", ("request_log=all",), watches=True),
    Way("everything on, the log with text", ("request_log=all", "request_log_text=true"), watches=True),
)


def measure(home: Path, *, mode: str, rounds: int, connections: int, calls: int) -> Record:
    """The ways by turns, forwards and backwards."""
    home.mkdir(parents=True, exist_ok=True)
    seen: dict[str, list[float]] = {way.name: [] for way in WAYS}
    with ExitStack() as stack:
        boxes = {way.name: stack.enter_context(box_of(way, home)) for way in WAYS}
        for _, port, what in boxes.values():
            asyncio.run(hammer(port, what, connections, WARM_CALLS))
        for number in range(rounds):
            for name in list(boxes) if number % 2 == 0 else reversed(boxes):
                os_pid, port, what = boxes[name]
                before_s = processor_s(os_pid)
                asyncio.run(hammer(port, what, connections, calls))
                seen[name].append(1000 * (processor_s(os_pid) - before_s) / calls)
    settings = {"rounds": rounds, "connections": connections, "calls": calls}
    return Record("cost", mode, settings, tuple(figures(seen)))


def processor_s(os_pid: int) -> float:
    """Processor time of all threads of a process, by its clock (`clock_getcpuclockid`)."""
    return time.clock_gettime((~os_pid << 3) | 2)


def figures(seen: Mapping[str, Sequence[float]]) -> Iterator[Figure]:
    """Milliseconds of each way, then the differences to the first of its round."""
    first, *others = seen
    for name, took_ms in seen.items():
        yield figure(f"{name}: the daemon's processor time a call", took_ms, "ms")
    for name in others:
        more = [on - off for on, off in zip(seen[name], seen[first], strict=True)]
        middle = quantiles(more, n=4) if len(more) > 1 else more * 3
        yield figure(
            f"{name}: more than {first}",
            more,
            "ms",
            target=Target(TARGET_MS, at_most=True),
            note=f"half of the rounds {middle[0]:.3f} .. {middle[2]:.3f}",
        )


@contextmanager
def box_of(way: Way, home: Path) -> Iterator[tuple[int, int, bytes]]:
    """The process, the port and the request of a daemon of this way, in a new home that goes afterwards."""
    with TemporaryDirectory(dir=home) as folder:
        path = Path(folder)
        store = Store(path)
        add_base(store)
        store.promote(add_model(store, MODEL, "tiny:1", pid=901).ref)
        if way.watches:
            (path / "alerts.toml").write_text(RULES)
        box = Box(path)
        box.cli("up", "--engine", "null", *(word for one in way.settings for word in ("--set", one)))
        try:
            until(lambda: _told(box, "status")["is_warm"], "the zygote's imports")
            headers = _watch(box) if way.watches else {}
            os_pid = _told(box, "status")["os_pid"]
            yield os_pid, box.port, request("POST", ROUTE, {"model": MODEL, "input": TEXT}, headers)
            if way.watches:
                _check_watched(box)
        finally:
            box.down()


def _watch(box: Box) -> dict[str, str]:
    """Begin to watch the calls, and return the headers of a request with a key."""
    box.cli("slo", MODEL, "--p99", "50ms", "--errors", "0.1%")
    box.cli("monitor", MODEL, "--on")
    until(lambda: _told(box, "ps")[0]["state"] == "ready", "the monitor")
    made = _told(box, "key", "create", "bench", *(word for pair in KEY.items() for word in pair))
    return {"Authorization": f"Bearer {made['secret']}"}


def _check_watched(box: Box) -> None:
    """Stop unless the calls were seen by what was to see them."""
    if not _told(box, "usage", "--by", "key"):
        raise Stop("The usage has no call")
    if not _told(box, "requests", "ls", "--limit", "1"):
        raise Stop("The request log has no call")
    if not _told(box, "slo", MODEL)["objectives"]:
        raise Stop("The SLO has no objective")
    if _told(box, "monitor", MODEL)["pid"] is None:
        raise Stop("No monitor is at work")


def _told(box: Box, *words: str) -> Json:
    return json.loads(box.cli(*words, "--json"))
