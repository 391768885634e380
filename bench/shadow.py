"""What a shadow costs live calls: their time with a copy of each answered by another version, beside that without.

Two heads on one base. Calls come at random moments, as many a second as a tenth of what the box answers alone, so that
a call waits for copies and not for other calls. Rounds with and without the shadow take turns.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench import data
from bench.box import Box
from bench.record import Figure, Record, Target
from llmos.abi.process import Priority
from llmos.sdk.client import Client

SET, NAME, ROWS = "sst2", "shadowed", 1_000
LOAD = 0.1  # of the calls a second that one caller gets answered
CALLS = {"quick": 400, "full": 2_000}  # of a round
ROUNDS = {"quick": 4, "full": 6}  # of each kind
CALLERS = 8
MOST = 1.1  # times the 99th percentile without a shadow
GUARDS = ("errors<=0.5", "agreement>=0.01")  # which nothing breaks, so that the shadow stays


def measure(folder: Path, home: Path, *, mode: str, rounds: int | None = None, calls: int | None = None) -> Record:
    """The 50th, 95th and 99th percentile of live calls, with and without a shadow, and the copies answered.

    `rounds` of each kind, of so many `calls`.
    """
    rounds, calls = rounds or ROUNDS[mode], calls or CALLS[mode]
    texts, labels = _read(data.need(folder, SET) / "train.tsv")
    with Box(home) as box, Client(box.url) as client, ThreadPoolExecutor(CALLERS) as callers:
        box.base()
        first, second = _versions(client, box.home, texts, labels)
        client.promote(f"{NAME}:{first}")
        rate = LOAD * _answered_a_second(client, texts)
        times: dict[bool, list[float]] = {False: [], True: []}
        copied = 0
        for turn in range(2 * rounds):
            is_shadowed = turn % 2 == 1
            if is_shadowed:
                client.start_rollout(NAME, second, mode="shadow", guards=GUARDS, calls=10_000_000)
            times[is_shadowed] += _round(client, callers, texts, rate, calls, seed=turn // 2)
            if is_shadowed:
                copied += int(client.rollout(NAME).rollout.tallies["candidate.errors"].count)
                client.stop_rollout(NAME)
    settings = {"base": "minilm", "method": "head", "rate": round(rate, 2), "rounds": rounds, "calls": calls}
    return Record("shadow", mode, settings, tuple(figures(times, copied)))


def figures(times: dict[bool, list[float]], copied: int) -> list[Figure]:
    """Percentiles of the seconds of calls, with a shadow (`True`) and without, over all rounds."""
    found, count = [], len(times[True])
    for percent in (50, 95, 99):
        alone, shadowed = (float(np.percentile(times[one], percent)) for one in (False, True))
        name = f"p{percent} of live calls with a shadow, times that without"
        note = f"{1_000 * shadowed:.2f} ms with, {1_000 * alone:.2f} ms without; {count:,} calls of each kind"
        target = Target(MOST, at_most=True) if percent == 99 else None
        found.append(Figure(name, shadowed / alone, "x", target=target, note=note))
    return [*found, Figure("share of calls whose copy was answered", copied / count)]


def _versions(client: Client, home: Path, texts: Sequence[str], labels: Sequence[str]) -> tuple[int, int]:
    """Two heads on the same base that have learned different rows."""
    made = []
    for part in range(2):
        file = home / f"{NAME}-{part}.csv"
        with file.open("w", encoding="utf-8", newline="") as opened:
            some = slice(part * ROWS, (part + 1) * ROWS)
            csv.writer(opened).writerows([("text", "label"), *zip(texts[some], labels[some], strict=True)])
        recipe = {"base": "minilm", "method": "head", "learning_curve": False, "seed": part}
        pid = client.train("classify", data=file, name=NAME, wait=False, **recipe).pid
        client.nice(pid, Priority.INTERACTIVE)  # beside other work, idle classes may get no processor
        client.wait(pid)
        made.append(max(one.version for one in client.models() if one.name == NAME))
    return made[0], made[1]


def _answered_a_second(client: Client, texts: Sequence[str]) -> float:
    """Of one caller, who asks again at once."""
    for text in texts[:20]:
        client.run(NAME, text)
    started = time.perf_counter()
    for text in texts[:100]:
        client.run(NAME, text)
    return 100 / (time.perf_counter() - started)


def _round(
    client: Client, callers: ThreadPoolExecutor, texts: Sequence[str], rate: float, calls: int, seed: int
) -> list[float]:
    """The seconds of each call, from the moment at which it was due: a late start counts as waiting."""
    chance = random.Random(seed)
    due, started, waiting = 0.0, time.perf_counter(), []
    for _ in range(calls):
        due += chance.expovariate(rate)
        time.sleep(max(0.0, started + due - time.perf_counter()))
        waiting.append(callers.submit(_ask, client, chance.choice(texts), started + due))
    return [one.result() for one in waiting]


def _ask(client: Client, text: str, due: float) -> float:
    client.run(NAME, text)
    return time.perf_counter() - due


def _read(path: Path) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if len(row) == 2]
    return [row[0] for row in rows], [row[1] for row in rows]
