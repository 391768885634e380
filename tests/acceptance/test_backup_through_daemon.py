"""A backup of a home that serves a trained model and trains another: restored elsewhere, both go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import House, free_port, pulled

from llmos import Client
from llmos.abi.process import State

pytestmark = [pytest.mark.acceptance, pytest.mark.filterwarnings("ignore::ResourceWarning")]

LEAST_STEPS = 5
STEP = re.compile(r"step-(\d+)")
QUESTIONS = [
    f"where is the {word} that I was sent in {month}?" for word in ("bill", "box") for month in ("May", "June")
]


@pytest.fixture
def other_house(tmp_path: Path) -> Iterator[House]:
    """A home that is not there yet."""
    house = House(tmp_path / "other", free_port())
    yield house
    house("down")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    lines = [f"where is my {word} number {number},{word}" for number in range(20) for word in ("parcel", "invoice")]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


def steps(client: Client, pid: int) -> Iterator[float]:
    """The steps that a training says it has done, while it trains."""
    for event in client.watch(pid):
        process = event.process
        if process and process.state is State.READY and process.progress and process.progress.phase == "train":
            yield process.progress.done


def checkpoint_in(home: Path, pid: int) -> int:
    """The step of the newest checkpoint; 0 for none."""
    found = (STEP.fullmatch(path.name) for path in (home / "scratch" / str(pid)).rglob("step-*"))
    return max((int(one[1]) for one in found if one), default=0)


def test_a_restored_home_answers_to_the_bit_and_its_training_goes_on(new_house, other_house, rows, tmp_path):
    assert new_house("up").returncode == 0
    pulled(new_house, "minilm")
    with new_house.client() as client:
        client.train("classify", data=rows, test=rows, name="known", base="minilm", method="head", learning_curve=False)
        answers = [client.run("known", text) for text in QUESTIONS]
        endless = {"epochs": 1_000, "batch_size": 4, "save_best": False, "checkpoint_every_s": 0.2}
        how = {"base": "minilm", "learning_curve": False, "wait": False, **endless}
        pid = client.train("classify", data=rows, validation=rows, test=rows, name="growing", **how).pid
        client.nice(pid, "interactive")  # in the background it has no turn on a full machine
        assert any(checkpoint_in(new_house.home, pid) >= LEAST_STEPS for _ in steps(client, pid))
        taken = new_house.json("backup", str(tmp_path / "backups"))
        client.kill(pid)
    assert taken["new_bytes"] > 0

    restored = other_house("restore", str(tmp_path / "backups"))
    assert restored.returncode == 0, restored.stderr
    done = checkpoint_in(other_house.home, pid)
    assert done >= LEAST_STEPS
    assert other_house("up").returncode == 0
    with other_house.client() as client:
        assert [client.run("known", text) for text in QUESTIONS] == answers
        assert client.process(pid).state is State.INTERRUPTED
        client.resume(pid)
        assert next(steps(client, pid)) >= done, "it went on from its checkpoint, not from its start"
        client.kill(pid)
