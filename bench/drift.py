"""Drift in real texts: calls until a monitor's alarm, through the daemon; and the false alarms of quiet weeks.

A head on SST-2 is trained by the daemon on a part of its rows. The other rows are quiet traffic, and planted drifts are
mixed into it. A quiet week is a stream of held-out texts, with the looks that a monitor takes of so many calls.
"""

from __future__ import annotations

import csv
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import data
from bench.box import Box, until
from bench.record import Figure, Record, Target
from bench.stop import Stop
from llmos.abi.monitoring import FOLDER, MonitorState, ObservedInput, observed_input
from llmos.abi.process import Priority, State
from llmos.data.noise import apply, typo
from llmos.evaluation.drift.look import FALSE_ALARMS_A_WEEK, LEVEL, InputSample, LookResult, benjamini_hochberg, look_at
from llmos.evaluation.drift.permutation_test import Floats
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.programs.monitor import CALLS_A_LOOK, REFERENCE, WINDOW
from llmos.sdk.client import Client

PARTS = ("planted", "quiet")
BASE = "minilm"
LEARNED, MEASURED = 2_000, 1_000  # rows that the head learns, rows of its evaluation
QUIET = 300  # calls before a drift
LATEST = 500  # calls of a drift, until which it must be alarmed
WEEKS = 20
LOOKS = {"quick": 140, "full": 1_000}  # of a week: 7,000 calls, 50,000
AT_ONCE = 25  # texts of a call to a monitored model, each of which counts as one
BATCH = 64  # texts of a call, where no monitor looks
MOST_CHARS = 300  # of a Chinese review
WORDS = 0.25  # of a text that a typo changes
WITHIN_S = 600.0
Text = tuple[str, str]  # with its label, which may be empty


@dataclass(frozen=True, slots=True)
class Planted:
    """A drift: the text of each call, made of a quiet one."""

    name: str
    made: Callable[[random.Random, Text], str]


def measure(folder: Path, home: Path, *, mode: str, seeds: int = 1, parts: frozenset[str] = frozenset(PARTS)) -> Record:
    """Each planted drift once for every seed, then the quiet weeks of the first; or one of these parts."""
    if not parts or parts - set(PARTS):
        raise Stop(f"drift has the parts {', '.join(PARTS)}; asked: {', '.join(sorted(parts))}")
    rows = _sst2(folder)
    figures: list[Figure] = []
    observed: InputSample | None = None
    with Box(home) as box, Client(box.url) as client:
        base = box.base(BASE)
        for seed in range(1, seeds + 1):
            chance = random.Random(seed)
            chance.shuffle(rows)
            quiet = rows[LEARNED + MEASURED :]
            name = _train(client, box.home, rows, f"drift-{seed}-{int(time.time())}", seed)
            for planted in _drifts(folder, quiet) if "planted" in parts else ():
                shutil.rmtree(box.home / FOLDER / name, ignore_errors=True)  # a monitor that has seen nothing
                figures.append(_planted(client, name, planted, quiet, chance, seed))
                print(figures[-1].name, figures[-1].value, figures[-1].note, flush=True)
            if seed == 1 and "quiet" in parts:
                observed = _observe(client, name, FastTokenizer(base), rows[LEARNED:])
    if observed is not None:
        figures += _weeks(observed, mode)
    settings = {"base": BASE, "learned": LEARNED, "quiet": QUIET, "weeks": WEEKS, "looks": LOOKS[mode], "seeds": seeds}
    settings |= {"parts": sorted(parts)}
    return Record("drift", mode, settings, tuple(figures))


def _drifts(folder: Path, quiet: Sequence[Text]) -> list[Planted]:
    """AG News arrives, labels shift, typos, emoji, another language."""
    news = _news(folder)
    reviews = _chinese(folder)
    good = [one for one, label in quiet if label == "1"]
    mixed = _mixed
    return [
        Planted("AG News, all calls", lambda chance, _: ". ".join(chance.choice(news))),
        Planted("AG News, 30 % of calls", mixed(0.3, lambda chance, _: ". ".join(chance.choice(news)))),
        Planted("AG News' titles, 30 % of calls", mixed(0.3, lambda chance, _: chance.choice(news)[0])),
        Planted("labels: 80 % positive", mixed(0.6, lambda chance, _: chance.choice(good))),
        Planted(f"typos in {WORDS:.0%} of words", lambda chance, one: apply(one[0], typo(one[0], chance, WORDS, 1))),
        Planted("an emoji at the end, 30 % of calls", mixed(0.3, lambda _, one: f"{one[0]} \N{GRINNING FACE}")),
        Planted("Chinese reviews, 30 % of calls", mixed(0.3, lambda chance, _: chance.choice(reviews))),
    ]


def _mixed(share: float, made: Callable[[random.Random, Text], str]) -> Callable[[random.Random, Text], str]:
    return lambda chance, one: made(chance, one) if chance.random() < share else one[0]


def _train(client: Client, home: Path, rows: Sequence[Text], name: str, seed: int) -> str:
    """A head whose evaluation rows are the reference; returns its name."""
    files = []
    for part, some in (("train", rows[:LEARNED]), ("test", rows[LEARNED : LEARNED + MEASURED])):
        files.append(home / f"drift-{part}.csv")
        with files[-1].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *some])
    recipe = {"base": BASE, "method": "head", "learning_curve": False, "seed": seed, "test": str(files[1])}
    pid = client.train("classify", data=files[0], name=name, wait=False, **recipe).pid
    client.nice(pid, Priority.INTERACTIVE)  # beside other work, idle classes may get no processor
    client.wait(pid)
    return name


def _planted(
    client: Client, name: str, planted: Planted, quiet: Sequence[Text], chance: random.Random, seed: int
) -> Figure:
    """Quiet calls, then the drift's, 50 at a time: how many of these until the monitor says so."""
    pid = client.start_monitor(name).pid
    assert pid is not None
    client.nice(pid, Priority.INTERACTIVE)
    texts = iter(chance.sample(list(quiet), QUIET + LATEST))
    state = _ask(client, name, [next(texts)[0] for _ in range(QUIET)], 0)
    early = {one.signal for one in state.alarms}
    for calls in range(CALLS_A_LOOK, LATEST + 1, CALLS_A_LOOK):
        some = [planted.made(chance, next(texts)) for _ in range(CALLS_A_LOOK)]
        state = _ask(client, name, some, QUIET + calls - CALLS_A_LOOK)
        late = [one for one in state.signals if one.is_drifting and one.signal not in early]
        if late:
            break
    client.stop_monitor(name)
    until(lambda: client.process(pid).state in (State.INTERRUPTED, State.EXITED), "the monitor's end")
    found = ", ".join(f"{one.signal} (p {one.p_value:.1g})" for one in late) or "no alarm"
    before = f"; before: {', '.join(early)}" if early else ""
    return Figure(
        f"seed {seed}: calls until the alarm: {planted.name}",
        calls if late else float("nan"),
        target=Target(LATEST, at_most=True),
        note=found + before,
    )


def _ask(client: Client, name: str, texts: Sequence[str], sent: int) -> MonitorState:
    """Ask a look's texts, and wait until the monitor has looked at them; what it has found then."""
    for start in range(0, len(texts), CALLS_A_LOOK):
        for at in range(start, start + CALLS_A_LOOK, AT_ONCE):
            client.run(name, texts[at : at + AT_ONCE])
        sent += len(texts[start : start + CALLS_A_LOOK])
        looks = max(0, (sent - WINDOW) // CALLS_A_LOOK + 1)

        def has_looked(calls: int = sent, looks: int = looks) -> MonitorState | None:
            state = client.monitor(name)
            return state if state.calls >= calls and state.looks >= looks else None

        state: MonitorState = until(has_looked, f"look {looks} after {sent} calls", every_s=0.1, within_s=WITHIN_S)
    return state


# Quiet weeks.


def _observe(client: Client, name: str, tokenizer: FastTokenizer, rows: Sequence[Text]) -> InputSample:
    """What a monitor is told of each text: the daemon's answers, the tokens, the vectors of the base."""
    texts = [text for text, _ in rows]
    inputs: list[ObservedInput] = []
    vectors: list[Floats] = []
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        answers, encoded = client.run(name, some), tokenizer.encode(some)
        for text, answer, one in zip(some, answers, encoded, strict=True):
            output = {"label": answer.label, "score": answer.score}
            size, lacked = len(one.ids), tokenizer.unknown_in(one.ids)
            inputs.append(observed_input(text, output, size, lacked, keeps_text=True))
        vectors += [np.array(one.vector) for one in client.run(BASE, some, task="embed")]
    return InputSample(inputs, np.array(vectors), texts)


def _weeks(observed: InputSample, mode: str) -> list[Figure]:
    """The weeks with a false alarm: at the level of a look, and with the week's budget shared by these looks alone."""
    looks = LOOKS[mode]
    real = spent = 0
    least: dict[str, float] = {}
    for week in range(WEEKS):
        found = list(_looks_of(observed, random.Random(week), looks))
        real += any(one.alarms for one in found)
        spent += any(_alarms(one, FALSE_ALARMS_A_WEEK / looks) for one in found)
        for one in found:
            least |= {key: min(least.get(key, 1.0), test.p_value) for key, test in one.tests.items()}
        print(f"week {week + 1}: {real} with an alarm so far, {spent} by the shared budget", flush=True)
    said = ", ".join(f"{key} {value:.1g}" for key, value in sorted(least.items(), key=lambda item: item[1]))
    calls = looks * CALLS_A_LOOK
    note = f"{calls:,} calls a week; least p of {WEEKS * looks:,} looks: {said}"
    return [
        Figure(f"quiet weeks of {WEEKS} with an alarm", real, target=Target(1, at_most=True), note=note),
        Figure(
            "the same, a week's budget spent in these looks",
            spent,
            target=Target(3, at_most=True),  # of 20 weeks at 5 %, more than 3 have a chance of 1.6 %
            note=f"level {FALSE_ALARMS_A_WEEK / looks:.1g} in place of {LEVEL:.1g}",
        ),
    ]


def _looks_of(observed: InputSample, chance: random.Random, looks: int) -> Iterator[LookResult]:
    """A reference, and a window that moves on over the other texts, drawn again and again in random order."""
    places = list(range(len(observed.inputs)))
    chance.shuffle(places)
    reference, others = _some(observed, places[:REFERENCE]), places[REFERENCE:]
    stream: list[int] = []
    for look in range(looks):
        while len(stream) < WINDOW:
            chance.shuffle(others)
            stream += others
        yield look_at(reference, _some(observed, stream[:WINDOW]), seed=look + 1)
        stream = stream[CALLS_A_LOOK:]


def _alarms(found: LookResult, level: float) -> frozenset[str]:
    return benjamini_hochberg({name: one.p_value for name, one in found.tests.items()}, level)


def _some(observed: InputSample, places: Sequence[int]) -> InputSample:
    assert observed.vectors is not None
    return InputSample(
        [observed.inputs[at] for at in places], observed.vectors[places], [observed.texts[at] for at in places]
    )


# Texts.


def _sst2(folder: Path) -> list[Text]:
    found = data.need(folder, "sst2")
    lines = [line for part in ("train", "dev", "test") for line in (found / f"{part}.tsv").open(encoding="utf-8")]
    pairs = [line.rstrip("\n").rpartition("\t") for line in lines]
    return sorted({(text, label) for text, _, label in pairs if text.strip()})


def _news(folder: Path) -> list[tuple[str, str]]:
    with (data.need(folder, "agnews") / "test.csv").open(encoding="utf-8", newline="") as file:
        return [(title, text) for _, title, text in csv.reader(file)]


def _chinese(folder: Path) -> list[str]:
    (file,) = data.need(folder, "chnsenticorp").glob("*.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            row["review"][:MOST_CHARS] for row in csv.DictReader(lines) if row["review"]
        ]  # the head takes 512 tokens
