"""Calls one after another on one kept connection, beside a plain uvicorn answer and the engine's own time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.box import Box, free_port, until
from bench.engine import InProcess, base_path
from bench.hammer import hammer, request
from bench.record import ROOT, Figure, Target, figure, ratios
from llmos.nn import resident

CALLS = 300  # of each kind a round, the first tenth of them for warming up
TEXT = "You charged me twice for the same order, and nobody answers the phone."
HEALTH, PLAIN, EMBED, ENGINE = "/healthz", "plain uvicorn", "embeddings, one text", "the engine alone, one text"


def measure(home: Path, rounds: int) -> tuple[Figure, ...]:
    """All four by turns; the embedding is of MiniLM in the box's dtype, over HTTP and by the engine in this process."""
    seen: dict[str, list[float]] = {HEALTH: [], PLAIN: [], EMBED: [], ENGINE: []}
    body = {"model": "minilm", "input": [TEXT], "encoding_format": "base64"}
    with Box(home) as box, TemporaryDirectory() as folder:
        base = box.base()
        dtype = box.device("cpu0")["dtype"]
        made = Path(folder) / dtype
        resident.make(base, dtype, made)
        engine = InProcess(base_path(base, made), [TEXT], device="cpu0", dtype=dtype, call_texts=1)
        size = len(json.dumps(box.ask("GET", HEALTH), separators=(",", ":")))
        with plain(size) as port:
            sent = {
                HEALTH: (box.port, request("GET", HEALTH)),
                PLAIN: (port, request("GET", "/")),
                EMBED: (box.port, request("POST", "/v1/embeddings", body)),
            }
            for _ in range(rounds):
                for name, (where, what) in sent.items():
                    seen[name].append(_middle(asyncio.run(hammer(where, what, 1, CALLS))))
                seen[ENGINE].append(_middle([_measure_s(engine.run) for _ in range(CALLS)]))
    return tuple(_figures(seen))


def _figures(seen: dict[str, list[float]]) -> Iterator[Figure]:
    yield figure("one by one, /healthz: p50", seen[HEALTH], "ms", target=Target(1.0, at_most=True))
    yield figure("one by one, a plain uvicorn answer: p50", seen[PLAIN], "ms")
    both = ratios(seen, HEALTH, PLAIN)
    yield figure("one by one, /healthz / a plain uvicorn answer", both, "x", target=Target(1.3, at_most=True))
    yield figure("one by one, an embedding: p50", seen[EMBED], "ms")
    yield figure("the engine in process, the same text: p50", seen[ENGINE], "ms")
    both = ratios(seen, EMBED, ENGINE)
    yield figure("one by one, an embedding / the engine's own time", both, "x", target=Target(1.3, at_most=True))


@contextmanager
def plain(size: int) -> Iterator[int]:
    """The port of a uvicorn that answers so many bytes, while this lasts."""
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "bench.plain_answer", str(port), str(size)], cwd=ROOT)
    try:
        until(lambda: _answers(port), "a plain uvicorn")
        yield port
    finally:
        child.terminate()
        child.wait()


def _answers(port: int) -> bool:
    try:
        asyncio.run(_connect(port))
    except OSError:
        return False
    return True


async def _connect(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


def _measure_s(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _middle(took_s: list[float]) -> float:
    return 1000 * median(took_s[len(took_s) // 10 :])
