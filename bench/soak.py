"""The soak: one daemon, mixed traffic, callers who leave and run late, too few blocks, models that come and go.

Every answer is held to the one that was given alone; at the end no block is held, and memory has not grown.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from bench.box import Box, Json, until
from bench.cast import GUESTS, Cast
from bench.questions import alone, questions
from bench.record import Figure, Record, Target
from bench.traffic import LEAST_MARGIN, Caller, Question, Wrong

CALLERS, GUEST_CALLERS = 18, 2  # the second for each guest
SETTINGS = {
    "dtype": "float32",
    "kv_bytes": 48 << 20,  # room for some 1,000 tokens of smollm2, far less than the callers together want
    "max_waiting_calls": 1,  # a second one is told to come back
}
SAMPLE_EVERY_S = 5.0
VISIT_S = 6.0
REST_S = 60.0
LONG_MINUTES = 15
MIB = 2**20
NONE = Target(0, at_most=True)
SOME = Target(1)
FLAT = Target(1.03, at_most=True)
EXPECTED = {"answered", "left", "busy", "timed_out"}
GONE = {"model_not_found"}  # what a guest's callers may hear too


@dataclass(slots=True)
class Seen:
    """What the callers met."""

    outcomes: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    visits: int = 0

    @property
    def surprises(self) -> dict[str, int]:
        return {how: count for how, count in self.outcomes.items() if how not in EXPECTED | GONE}


def measure(folder: Path, home: Path, *, minutes: float, mode: str) -> Record:
    """So many minutes of traffic, after every question was asked alone."""
    home.mkdir(parents=True, exist_ok=True)
    box = Box(home)
    box.cli("up", *(word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")))
    try:
        with TemporaryDirectory() as scratch:
            cast = Cast(box, Path(scratch), folder)
            asked, close = alone(Caller(box.url, seed=0), questions(folder))
            before = _serving(box)
            seen, memory = _traffic(box, asked, cast, minutes * 60)
            engine = _at_rest(box)
            died = len(before.items() - _serving(box).items())
    finally:
        box.down()
    settings = {
        "minutes": minutes,
        "callers": CALLERS + GUEST_CALLERS * len(GUESTS),
        **SETTINGS,
        "questions": len(asked),
        f"left out, two tokens within {LEAST_MARGIN} nats": close,
    }
    figures = (
        *_verdicts(seen, engine, died),
        *_memory(memory, is_long=minutes >= LONG_MINUTES),
        *_counts(seen, engine),
    )
    return Record("soak", mode, settings, figures, tuple(seen.wrong[:10]))


def _traffic(box: Box, asked: Sequence[Question], cast: Cast, for_s: float) -> tuple[Seen, list[float]]:
    """Everybody asks until the time is over; beside them memory is looked at every few seconds."""
    seen, over, memory = Seen(), threading.Event(), list[float]()
    with ThreadPoolExecutor(CALLERS + len(GUESTS)) as pool:
        work = [pool.submit(_ask, box.url, seed, asked, seen, over) for seed in range(CALLERS)]
        work += [pool.submit(_host, box.url, cast, name, asked, seen, over) for name in GUESTS]
        end = time.monotonic() + for_s
        while time.monotonic() < end and not any(one.done() for one in work):
            memory.append(sum(psutil.Process(pid).memory_full_info().pss for pid in _os_pids(box)))
            over.wait(SAMPLE_EVERY_S)
        over.set()
        for one in work:
            one.result()
    return seen, memory


def _ask(url: str, seed: int, asked: Sequence[Question], seen: Seen, over: threading.Event) -> None:
    """One caller, call after call; one who is told that the box is busy lets a moment pass."""
    caller, chance = Caller(url, seed), random.Random(seed)
    while not over.is_set():
        question = chance.choice(asked)
        try:
            how, answers = caller.ask(question)
        except Wrong as wrong:
            seen.wrong.append(str(wrong))
            how, answers = "wrong", 0
        seen.outcomes[how] += 1
        seen.answers[question.task] += answers
        if how in GONE:
            return
        if how == "busy":
            over.wait(chance.uniform(0.05, 0.5))


def _host(url: str, cast: Cast, name: str, asked: Sequence[Question], seen: Seen, over: threading.Event) -> None:
    """One name that means now one LoRA model, now another: it comes, is asked, and is removed while it is asked."""
    turn = 0
    while not over.is_set():
        which = GUESTS[name][turn % len(GUESTS[name])]
        cast.come(name, which)
        to_ask = [question.of(name) for question in asked if question.model == which]
        gone = threading.Event()
        with ThreadPoolExecutor(GUEST_CALLERS) as pool:
            seeds = range(1000 * (turn + 1), 1000 * (turn + 1) + GUEST_CALLERS)
            work = [pool.submit(_ask, url, seed, to_ask, seen, gone) for seed in seeds]
            over.wait(VISIT_S)
            cast.go(name)
            gone.set()
            for one in work:
                one.result()
        turn += 1
        seen.visits += 1


def _serving(box: Box) -> dict[int, int]:
    return {one["pid"]: one["os_pid"] for one in box.serving()}


def _os_pids(box: Box) -> list[int]:
    return [box.ask("GET", "/v1/status")["os_pid"], *(one for one in _serving(box).values() if one)]


def _at_rest(box: Box) -> Json:
    """The figures of the engine that generates, once nobody is being answered any more and one more call was."""
    until(lambda: box.ask("GET", "/v1/status")["in_flight"] == 0, "the end of the calls", within_s=REST_S)
    ask = {"model": "smollm2", "input": "It is over.", "params": {"max_tokens": 1}}
    box.ask("POST", "/v1/tasks/generate", ask)
    return until(partial(_resting, box), "the engine to come to rest", every_s=0.2, within_s=REST_S)


def _resting(box: Box) -> Json:
    (process,) = (one for one in box.serving() if one["spec"]["args"]["base"].startswith("smollm2:"))
    figures = process["progress"]["figures"]
    return figures if figures["live"] == figures["waiting"] == 0 else None


def _verdicts(seen: Seen, engine: Json, died: int) -> list[Figure]:
    surprises = seen.surprises
    return [
        Figure("wrong answers", len(seen.wrong), target=NONE),
        Figure("refusals nobody asked for", sum(surprises.values()), target=NONE, note=str(surprises or "")),
        Figure("serve processes that died", died, target=NONE),
        Figure("blocks of keys and values held at the end", engine["kv_held"], target=NONE),
        Figure("answers sent back for an older one's blocks", engine["preempted"], target=SOME),
    ]


def _memory(samples: Sequence[float], *, is_long: bool) -> list[Figure]:
    """Daemon and serve processes, proportional: the last quarter beside the second, for the first one fills caches."""
    quarter = max(1, len(samples) // 4)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    late = np.asarray(samples[quarter:] or samples) / MIB
    minutes = np.arange(len(late)) * SAMPLE_EVERY_S / 60
    slope = float(np.polyfit(minutes, late, 1)[0]) if len(late) > 1 else 0.0
    note = "" if is_long else f"held to {FLAT} from {LONG_MINUTES} minutes on: before, caches fill"
    return [
        Figure(
            "memory, last quarter / second",
            median(last) / median(second),
            "x",
            target=FLAT if is_long else None,
            note=note,
        ),
        Figure("memory, slope after the first quarter", slope, "MiB/min"),
        Figure("memory", median(samples) / MIB, "MiB", min(samples) / MIB, max(samples) / MIB, note="proportional"),
    ]


def _counts(seen: Seen, engine: Json) -> list[Figure]:
    counts = [Figure(f"answers, {task}", count) for task, count in sorted(seen.answers.items())]
    counts += [Figure(f"calls that ended: {how}", seen.outcomes[how]) for how in sorted(EXPECTED | GONE)]
    counts.append(Figure("models that came and went", seen.visits))
    return [*counts, Figure("tokens of prompts found, not computed", engine["prefix_hit_rate"], "share")]
