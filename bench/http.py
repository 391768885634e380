"""What a call costs the daemon itself: its own processor time, with a model behind it that computes nothing.

So many connections, each busy all the time, wait for each other: their p50 is their count divided by the rate of calls.
A plain uvicorn answer over as many connections stands beside, for the pace of the machine.
What a call costs its caller who sends one after another: bench/one_by_one.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bench import one_by_one
from bench.box import Box, until
from bench.hammer import hammer, request
from bench.record import Figure, Record, Target, figure
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

TARGET_MS = 0.5
P50_MS = 12.0  # of one input
PLAIN_BYTES = 200  # about what the daemon answers to one input
WARM_CALLS = 200
TEXT = "You charged me twice for the same order, and nobody answers the phone."
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {  # Any: a body in JSON
    "classify, one input": ("/v1/tasks/classify", {"model": "mood", "input": TEXT}),
    "embeddings, one input, base64": (
        "/v1/embeddings",
        {"model": "tiny", "input": [TEXT], "encoding_format": "base64"},
    ),
    "classify, 32 inputs": ("/v1/tasks/classify", {"model": "mood", "inputs": [TEXT] * 32}),
}


@dataclass(slots=True)
class Load:
    """One entry a round."""

    cpu_ms: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


def measure(home: Path, *, mode: str, rounds: int, connections: int, calls: int) -> Record:
    """Every route by turns, over so many connections that are each busy all the time."""
    loads = {name: Load() for name in ROUTES}
    plain_p50_ms: list[float] = []
    home.mkdir(parents=True, exist_ok=True)
    with box_of_null(home) as box, one_by_one.plain(PLAIN_BYTES) as port:
        daemon = psutil.Process(box.ask("GET", "/v1/status")["os_pid"])
        for name in ROUTES:
            asyncio.run(hammer(box.port, _request(name), connections, WARM_CALLS))
        for _ in range(rounds):
            for name, load in loads.items():
                _round(box.port, _request(name), daemon, connections, calls, load)
            plain_p50_ms.append(1000 * median(asyncio.run(hammer(port, request("GET", "/"), connections, calls))))
    figures = tuple(one for name, load in loads.items() for one in _figures(name, load))
    figures += (figure("a plain uvicorn answer over as many connections: p50", plain_p50_ms, "ms"),)
    figures += one_by_one.measure(home, rounds)
    return Record("http", mode, {"rounds": rounds, "connections": connections, "calls": calls}, figures)


@contextmanager
def box_of_null(home: Path) -> Iterator[Box]:
    """A daemon with the null engine, a base and a model on it, in a new home that goes afterwards."""
    with TemporaryDirectory(dir=home) as folder:
        store = Store(Path(folder))
        add_base(store)
        store.promote(add_model(store, "mood", "tiny:1", pid=901).ref)
        box = Box(Path(folder))
        box.cli("up", "--engine", "null")
        try:
            until(lambda: box.ask("GET", "/v1/status")["is_warm"], "the zygote's imports")
            yield box
        finally:
            box.down()


def _round(port: int, request: bytes, daemon: psutil.Process, connections: int, calls: int, load: Load) -> None:
    before, start = daemon.cpu_times(), time.perf_counter()
    took_s = asyncio.run(hammer(port, request, connections, calls))
    wall_s, after = time.perf_counter() - start, daemon.cpu_times()
    load.cpu_ms.append(1000 * (after.user + after.system - before.user - before.system) / len(took_s))
    load.rate.append(len(took_s) / wall_s)
    took_s.sort()
    load.p50_ms.append(1000 * took_s[len(took_s) // 2])
    load.p99_ms.append(1000 * took_s[len(took_s) * 99 // 100])


def _figures(name: str, load: Load) -> Iterator[Figure]:
    target = Target(TARGET_MS, at_most=True) if "32" not in name else None
    yield figure(f"{name}: the daemon's processor time a call", load.cpu_ms, "ms", target=target)
    yield figure(f"{name}: calls", load.rate, "1/s")
    p50 = None if target is None else Target(P50_MS, at_most=True)
    yield figure(f"{name}: p50", load.p50_ms, "ms", target=p50)
    yield figure(f"{name}: p99", load.p99_ms, "ms")


def _request(name: str) -> bytes:
    path, body = ROUTES[name]
    return request("POST", path, body)
