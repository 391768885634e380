"""Learning from feedback through the real daemon, which is killed while rows come in and a model is trained."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest
from conftest import House, is_hit

from llmos import Client
from llmos.abi.error import LlmosError
from llmos.abi.learning import LearningState
from llmos.testing import tiny

pytestmark = [pytest.mark.acceptance, pytest.mark.filterwarnings("ignore::ResourceWarning")]

LABELS = {"red": "fruit", "steel": "metal"}
SETTINGS = {"method": "full", "epochs": 3, "batch_size": 4, "learning_curve": False, "checkpoint_every_s": 0.001}


def text_of(chance: random.Random, at: int) -> str:
    return f"{chance.choice('abcdef')}{at} {list(LABELS)[at % 2]} {chance.choice('uvwxyz')}"


def label_of(text: str) -> str:
    return next(label for word, label in LABELS.items() if word in text.split())


def begin(house: House, folder: Path, rows: int) -> None:
    chance = random.Random(5)
    texts = [text_of(chance, at) for at in range(rows)]
    lines = [json.dumps({"text": text, "label": label_of(text)}) for text in texts]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    assert house("pull", str(tiny.write(folder / "tiny", "bert")), "--name", "tiny").returncode == 0
    with house.client() as client:
        client.train("classify", data=folder / "rows.jsonl", base="tiny", name="sorter", **SETTINGS)


def settled(client: Client, steps: int) -> LearningState:
    """The state once there are so many steps and nothing is at work."""
    state = client.learn("sorter")
    if state.pid is None and len(state.steps) >= steps and state.steps[0].ref:
        return state
    for _ in client.watch():
        state = client.learn("sorter")
        if state.pid is None and len(state.steps) >= steps and state.steps[0].ref:
            return state
    raise AssertionError("the daemon has gone")


def test_a_model_learns_by_itself_and_no_acknowledged_row_is_lost(house: House, tmp_path: Path):
    begin(house, tmp_path, 60)
    chance, acknowledged = random.Random(7), []
    with house.client() as client:
        assert client.learn("sorter", "20 rows").rows == 20
    for kill in range(3):
        with house.client() as client:
            os_pid = client.status().os_pid
            for at in range(14):
                text = text_of(chance, 1_000 + 100 * kill + at)
                client.run("sorter", text)
                acknowledged.append(client.feedback(client.last_call_id, label=label_of(text), user="ann").id)
            trainers = [one for one in client.processes() if one.spec.program == "train" and one.os_pid]
            for process in trainers:
                is_hit(process.os_pid)
        os.kill(os_pid, signal.SIGKILL)
        assert house("up").returncode == 0
    with house.client() as client:
        assert {one.id for one in client.feedback_rows(model="sorter", limit=1_000)} == set(acknowledged)
        state = settled(client, 1)
        assert state.rows == 20
        assert state.steps[-1].rows + state.steps[-1].held_out >= 20
        versions = {one.ref for one in client.models() if one.name == "sorter"}
        assert state.steps[0].ref in versions
        rows = client.dataset(state.steps[0].dataset)
        assert rows.splits["test"] >= state.steps[0].held_out
        assert client.stop_learning("sorter").when == ""
        assert client.erase_feedback("ann") == len(acknowledged)


def test_a_client_that_sends_answers_back_teaches_nothing(house: House, tmp_path: Path):
    begin(house, tmp_path, 60)
    chance = random.Random(9)
    with house.client() as client:
        evidence = client.model("sorter").evidence
        assert evidence
        for at in range(10):
            text = text_of(chance, 5_000 + at)
            with pytest.raises(LlmosError) as refused:
                client.feedback(model="sorter", input=text, label="fruit", source="model")
            assert refused.value.code == "own_answer"
        assert client.feedback_rows(model="sorter") == []
