"""Labelling through the real daemon, which is killed in the midst of queues, answers and trainings."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import House

from llmos import Client
from llmos.abi.error import LlmosError
from llmos.abi.labelling import LabellingState, RowAnswer
from llmos.abi.process import Process, State
from llmos.cli.answer_file import AnswerFile
from llmos.cli.label_exchange import LabelPlan, exchange
from llmos.testing import tiny

pytestmark = [pytest.mark.acceptance, pytest.mark.filterwarnings("ignore::ResourceWarning")]

LABELS = {"red": "fruit", "steel": "metal"}
SETTINGS = {"method": "full", "epochs": 4, "batch_size": 4, "checkpoint_every_s": 0.001, "learning_curve": False}
PLAN = LabelPlan("ada", 12, "margin", base="tiny", model="sorter", retrain=24, settings=SETTINGS)
KILLED_AT = ("queue-data", "label-data", "train", "label-data")  # one after the other
ROUNDS = 18
ALL, FEW = 260, 16  # rows, and those with labels at the beginning


def label_of(text: str) -> str:
    return next(label for word, label in LABELS.items() if word in text.split())


def begin(house: House, folder: Path) -> None:
    """A dataset with few labels and many rows without one, and a base."""
    chance, words = random.Random(5), list(LABELS)
    texts = [f"{chance.choice('abcdef')}{at} {words[at % 2]} {chance.choice('uvwxyz')}" for at in range(ALL)]
    few = [json.dumps({"text": text, "label": label_of(text)}) for text in texts[:FEW]]
    (folder / "few.jsonl").write_text("\n".join(few))
    (folder / "raw.txt").write_text("\n".join(texts[FEW:]))
    assert house("pull", str(tiny.write(folder / "tiny", "bert")), "--name", "tiny").returncode == 0
    words_of = ("--unlabelled", str(folder / "raw.txt"), "--name", "rows", "--task", "classify")
    done = house("data", "import", str(folder / "few.jsonl"), *words_of)
    assert done.returncode == 0, done.stderr


def is_at_work(process: Process | None, program: str) -> bool:
    if process is None or process.spec.program != program or process.state is not State.READY:
        return False
    return program != "train" or (process.progress is not None and process.progress.phase == "train")


@contextmanager
def killer(house: House, waits_for: deque[str], killed: list[Process]) -> Iterator[None]:
    """While the block lasts, the daemon is killed when a process of the next program is at work."""
    with house.client() as client:
        os_pid = client.status().os_pid

    def watch() -> None:
        with house.client() as client, suppress(LlmosError):  # it has been killed, or is taken down
            for event in client.watch():
                if waits_for and is_at_work(event.process, waits_for[0]):
                    waits_for.popleft()
                    killed.append(event.process)
                    os.kill(os_pid, signal.SIGKILL)
                    return

    threading.Thread(target=watch, daemon=True).start()
    yield


def is_training(state: LabellingState) -> bool:
    return state.training is not None and state.training.state in ("queued", "starting", "ready")


def await_training(client: Client) -> None:
    """Until the training has ended, or the daemon."""
    state = client.labelling("rows", model="sorter", retrain=PLAN.retrain)
    if is_training(state):
        for _ in client.watch(state.training.pid):
            pass


def labels_in(client: Client, ref: str) -> dict[str, str]:
    """The rows with labels, by id."""
    found: dict[str, str] = {}
    while page := client.dataset_rows(ref, split="train", offset=len(found) + 1, limit=100):
        found |= {row["id"]: row["label"] for row in page}
    return found


def answer_and_be_killed(
    house: House, given: AnswerFile, waits_for: deque[str]
) -> tuple[dict[str, str], list[Process]]:
    """Answers until the daemon was killed at each of these; returns them by row, and the processes that died."""
    said: dict[str, str] = {}
    killed: list[Process] = []
    for _ in range(ROUNDS):
        house.start()
        with house.client() as client, killer(house, waits_for, killed), suppress(LlmosError):
            found = exchange(client, PLAN, given, "rows", (), wants_rows=True)
            for row in found.queue["rows"] if found.queue else ():
                said[row["id"]] = label_of(row["text"])
                given.add(RowAnswer(row["id"], said[row["id"]], "ada"))
            if waits_for and waits_for[0] == "train":
                await_training(client)
        if not waits_for:
            return said, killed
    raise AssertionError(f"in {ROUNDS} rounds no {waits_for[0]} was at work")


def test_no_answer_is_lost_whenever_the_daemon_dies_and_trainings_go_on(new_house: House, tmp_path: Path) -> None:
    assert new_house("up").returncode == 0
    begin(new_house, tmp_path)
    given = AnswerFile(tmp_path / "answers.jsonl")
    said, killed = answer_and_be_killed(new_house, given, deque(KILLED_AT))
    assert [one.spec.program for one in killed] == list(KILLED_AT)
    new_house.start()
    with new_house.client() as client:
        while given.answers:
            assert exchange(client, PLAN, given, "rows", (), wants_rows=False).error is None
        client.queue_dataset("rows", n=1, base="tiny", model="sorter")  # after it an interrupted training goes on
        await_training(client)
        state = client.labelling("rows", model="sorter", retrain=PLAN.retrain)
        assert (state.labelled, state.unlabelled) == (FEW + len(said), ALL - FEW - len(said))
        assert said.items() <= labels_in(client, "rows").items()
        for one in {one.pid for one in killed if one.spec.program == "train"}:
            ended = client.process(one)
            assert (ended.state, ended.fault) == (State.EXITED, None)
            assert ended.made[-1].startswith("sorter:")
        assert state.model is not None
        again = tmp_path / "again.jsonl"
        again.write_text("\n".join(json.dumps({"id": row, "value": value, "by": "ada"}) for row, value in said.items()))
        assert client.label_dataset("rows", again).made[-1] == state.dataset, "answers that came twice change nothing"
    assert new_house("down").returncode == 0
