"""Six tasks on two resident bases at once: what they hold beside the two bases alone, and that all answer right."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from bench import data, pupils
from bench.box import Box
from bench.record import Figure, Record, Target, figure
from bench.stop import Stop
from bench.traffic import Caller, Question, Wrong

CALLERS = 8
PUPILS = {"mixed-mood": "classify", "mixed-names": "tag", "mixed-persons": "answer"}
BASES = ("embed", "chat")  # what the two bases are asked alone
TEXTS, EACH, ANSWER_TOKENS = 200, 8, 16
HELD = Target(1.25, at_most=True)
NONE = Target(0, at_most=True)
MIB = 2**20


def measure(folder: Path, home: Path, *, seconds: float, mode: str) -> Record:
    """Traffic to the bases alone, then, with fresh serve processes, as much to all six tasks."""
    with Box(home) as box, TemporaryDirectory() as scratch:
        for base in ("minilm", "smollm2"):
            box.base(base)
        pupils.ensure(box, PUPILS, folder, Path(scratch))
        caller = Caller(box.url, seed=0)
        asked = [caller.alone(one)[0] for one in _questions(folder)]
        two, _, _ = _held(box, [one for one in asked if one.task in BASES], seconds)
        six, took_s, wrong = _held(box, asked, seconds)
        dtype = box.device()["dtype"]
    total = sum(len(each) for each in took_s.values())
    figures = (
        Figure("memory, six tasks / two bases", six / two, "x", target=HELD),
        Figure("memory, two bases", two / MIB, "MiB", note="proportional, both serve processes"),
        Figure("memory, six tasks", six / MIB, "MiB", note="proportional, both serve processes"),
        Figure("wrong answers", wrong, target=NONE),
        Figure("calls", total / seconds, "1/s"),
        *(figure(f"{task}: seconds of a call", each, "s", note=f"{len(each)} calls") for task, each in took_s.items()),
    )
    settings = {"dtype": dtype, "callers": CALLERS, "seconds": seconds, "tokens of a chat": ANSWER_TOKENS}
    return Record("mixed", mode, settings, figures)


def _held(box: Box, asked: Sequence[Question], seconds: float) -> tuple[int, dict[str, list[float]], int]:
    """Bytes of two fresh serve processes after so many seconds of these questions; the calls' seconds; wrong ones."""
    box.stop_serving()
    over, took_s, wrong = threading.Event(), dict[str, list[float]](), list[str]()
    with ThreadPoolExecutor(CALLERS) as pool:
        work = [pool.submit(_ask, box.url, seed, asked, took_s, wrong, over) for seed in range(CALLERS)]
        over.wait(seconds)
        over.set()
        for one in work:
            one.result()
    held = sum(psutil.Process(one["os_pid"]).memory_full_info().pss for one in box.serving())
    return held, took_s, len(wrong)


def _ask(
    url: str,
    seed: int,
    asked: Sequence[Question],
    took_s: dict[str, list[float]],
    wrong: list[str],
    over: threading.Event,
) -> None:
    caller, chance = Caller(url, seed, is_calm=True), random.Random(seed)
    tasks = sorted({one.task for one in asked})
    while not over.is_set():
        task = chance.choice(tasks)
        start = time.perf_counter()
        try:
            how, _ = caller.ask(chance.choice([one for one in asked if one.task == task]))
        except Wrong as error:
            wrong.append(str(error))
            continue
        if how != "answered":
            raise Stop(f"A call of {task} ended with {how}")
        took_s.setdefault(task, []).append(time.perf_counter() - start)


def _questions(folder: Path) -> list[Question]:
    texts, chance = data.ragged_texts(folder, TEXTS, seed=5), random.Random(5)
    sentences = [" ".join(words) for words, _ in data.conll(data.need(folder, "conll2003") / "eng.testa")[:TEXTS]]
    made = []
    for _ in range(EACH):
        some = tuple(chance.sample(texts, 4))
        ranked = {"query": chance.choice(texts), "documents": list(some)}
        person = {"question": pupils.ASKED, "passage": " ".join(chance.sample(sentences, 4))}
        made += [
            Question("classify", "mixed-mood", some, {}),
            Question("tag", "mixed-names", some, {}),
            Question("answer", "mixed-persons", (person,), {}),
            Question("embed", "minilm", some, {}),
            Question("rerank", "minilm", (ranked,), {}),
            Question("chat", "smollm2", (some[0],), {"temperature": 0, "max_tokens": ANSWER_TOKENS}),
        ]
    return made
