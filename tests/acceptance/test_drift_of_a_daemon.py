"""Real texts of another kind in a real head's traffic are an alarm within 500 calls; before them it is quiet."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TREE, House

from llmos import Client
from llmos.abi.api_types import StreamEvent
from llmos.abi.monitoring import MonitorState
from llmos.abi.process import Priority

pytestmark = [pytest.mark.acceptance, pytest.mark.filterwarnings("ignore::ResourceWarning")]

DATA = TREE.parent / "shared" / "data"
NAME = "reviews"
A_LOOK, WINDOW, LATEST, A_CALL = 50, 200, 500, 25  # texts, each of which counts as a call
SETTINGS = {"method": "head", "learning_curve": False, "seed": 7}


def reviews() -> list[tuple[str, str]]:
    """SST-2's sentences with their labels, in random order."""
    path = DATA / "sst2" / "train.tsv"
    if not path.exists():
        pytest.skip(f"needs the public data set SST-2 in {path}")
    pairs = [line.rpartition("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [(text, label) for text, _, label in pairs]
    random.Random(7).shuffle(rows)
    return rows


def news() -> list[str]:
    path = DATA / "agnews" / "test.csv"
    if not path.exists():
        pytest.skip(f"needs the public data set AG News in {path}")
    with path.open(encoding="utf-8", newline="") as file:
        return [f"{title}. {text}" for _, title, text in csv.reader(file)]


def trained(client: Client, folder: Path, rows: list[tuple[str, str]]) -> None:
    """A head on 400 rows, with 200 of its evaluation, which are the monitor's reference."""
    files = [folder / "train.csv", folder / "test.csv"]
    for file, some in zip(files, (rows[:400], rows[400:600]), strict=True):
        with file.open("w", encoding="utf-8", newline="") as lines:
            csv.writer(lines).writerows([("text", "label"), *some])
    pid = client.train(
        "classify", data=files[0], test=str(files[1]), name=NAME, base="minilm", wait=False, **SETTINGS
    ).pid
    client.nice(pid, Priority.INTERACTIVE)  # a busy machine gives idle classes no time
    client.wait(pid)


def looked(client: Client, texts: list[str], events: Iterator[StreamEvent]) -> MonitorState:
    """The state after these calls and one more look, of which the monitor's process tells."""
    looks = client.monitor(NAME).looks
    for start in range(0, len(texts), A_CALL):
        client.run(NAME, texts[start : start + A_CALL])
    while (state := client.monitor(NAME)).looks == looks:
        next(events)
    return state


def test_news_in_the_traffic_of_reviews_are_alarmed_within_500_calls(minilm: House, tmp_path: Path):
    rows, other, chance = reviews(), news(), random.Random(3)
    with minilm.client() as client:
        trained(client, tmp_path, rows)
        pid = client.start_monitor(NAME).pid
        assert pid is not None
        client.nice(pid, Priority.INTERACTIVE)
        events = client.watch(pid)
        next(events)  # its present state; what happens from now on follows
        quiet = iter(text for text, _ in rows[600:])
        state = looked(client, [next(quiet) for _ in range(WINDOW + A_LOOK)], events)
        assert (state.status, state.reference, state.alarms) == ("quiet", "evaluation", ())
        for _ in range(0, LATEST, A_LOOK):
            some = [chance.choice(other) if chance.random() < 0.5 else next(quiet) for _ in range(A_LOOK)]
            state = looked(client, some, events)
            if state.status == "drift":
                break
        assert state.status == "drift", state.signals
        page = client.monitor_report(NAME)
        assert all(one.signal.replace("_", " ") in page for one in state.signals if one.is_drifting)
        client.stop_monitor(NAME)
