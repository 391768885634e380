"""A search whole, with trials that a daemon plays: killed at any point, it ends with the same leaderboard."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.error import Fault
from llmos.abi.frame import Act, ChildChanged, FromChild, Job, ModelPath, Replied, Requested
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import PAUSED, Process, Progress, Spec, State
from llmos.abi.tuning import Leaderboard, pack_of, recipes_of
from llmos.abi.wire import from_json, to_json
from llmos.programs.trial_outcome import failed_key, metric_key
from llmos.testing.daemon import FakeDaemon

CHILD = Path(__file__).with_name("search_child.py")
BASE = Manifest("tiny", 1, Kind.BASE, "embed", (), options={"pooling": "mean"})


class World:
    """The kernel's side: trials that outlive their search, and what each finds, which follows from its recipe alone.

    A trial is killed when it first works on a rung in `deadly`, and fails for good if it has a number in `failing`.
    """

    def __init__(self, folder: Path, deadly: set[tuple[int, int]], failing: set[int]) -> None:
        rows = folder / "rows.csv"
        rows.write_text(
            "text,label\n" + "".join(f"a {'good' if i % 2 else 'bad'} day {i},{i % 2}\n" for i in range(60))
        )
        scratch = folder / "scratch"
        scratch.mkdir()
        args = {
            "task": "classify",
            "name": "mood",
            "base": "tiny:1",
            "data": {"train": str(rows)},
            "budget": "16 trials",
            "sampler": "quasi-random",
            "methods": ["lora", "head"],
            "reports": str(folder / "reports"),
        }
        self.job = Job(1, "tune", args, str(scratch), models={"base": ModelPath(BASE, str(folder))})
        self.reports = folder / "reports"
        self.trials: dict[int, Process] = {}
        self.deadly, self.failing = set(deadly), failing
        self.begun: set[int] = set()
        self.may_begin_again = False
        self.most_together = 8
        self.bad: set[int] = set()  # what the kernel refuses for its settings
        self.requests = 0

    def run(self, kill_after: int | None = None, *, may_fail: bool = False) -> int:
        """Run the search, and kill it after so many requests; its exit code."""
        ours, theirs = socket.socketpair()
        words = [sys.executable, str(CHILD), str(theirs.fileno()), to_json(self.job).decode()]
        child = subprocess.Popen(words, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE)
        theirs.close()
        daemons: list[FakeDaemon] = []
        seen = 0

        def on_frame(frame: FromChild) -> None:
            nonlocal seen
            if isinstance(frame, Requested):
                seen += 1
                replies = self.answer(frame)
                if kill_after is not None and seen >= kill_after:
                    child.send_signal(signal.SIGKILL)
                    return
                for one in replies:
                    daemons[0].send(one)

        daemons.append(FakeDaemon(ours, on_frame))
        _, errors = child.communicate(timeout=120)
        daemons[0].join()
        self.requests += seen
        assert child.returncode in (0, -signal.SIGKILL) or may_fail, errors.decode()
        return child.returncode

    def answer(self, asked: Requested) -> list[Any]:  # Any: frames of two kinds
        """What the kernel does and says: the trial has worked before the search learns of it."""
        if asked.act is Act.LIST:
            return [Replied(asked.request_id, tuple(self.trials.values()))]
        if asked.act is Act.SUBMIT and len(pack_of(asked.args)) > self.most_together:
            return [Replied(asked.request_id, fault=Fault("no_room", "there is no room for so many"))]
        if asked.act is Act.SUBMIT and self.bad & {one.number for one in pack_of(asked.args)}:
            return [Replied(asked.request_id, fault=Fault("bad_setting", "there is no such rank"))]
        if asked.act is Act.SUBMIT:
            pid = 10 + len(self.trials)
            numbers = {one.number for one in pack_of(asked.args)}
            assert self.may_begin_again or numbers.isdisjoint(self.begun)
            self.begun |= numbers
            begun = Process(pid, Spec("trial", asked.args, parent=1))
        else:
            assert asked.act is Act.RESUME
            known = self.trials[asked.pid]
            assert known.state is State.INTERRUPTED
            begun = replace(known, state=State.QUEUED, spec=replace(known.spec, args={**known.spec.args, **asked.args}))
        done = self.trials[begun.pid] = self.work(begun)
        return [Replied(asked.request_id, (replace(begun, state=State.QUEUED),)), ChildChanged(done)]

    def work(self, trial: Process) -> Process:
        args = trial.spec.args
        rung, shares, active = args["rung"], args["shares"], args["active"]
        if killed := self.deadly & {(number, rung) for number in active}:
            self.deadly -= killed
            return replace(trial, state=State.INTERRUPTED, exit_code=-9, reason="ended by signal 9")
        if len(active) == 1 and active[0] in self.failing:
            return replace(trial, state=State.EXITED, exit_code=1, reason="it diverged")
        if rung == len(shares):
            last = Progress("done", message="mood:1 is promoted")
            return replace(trial, state=State.EXITED, exit_code=0, made=("mood@1", "mood:1"), progress=last)
        figures = {"rung": float(rung), "seconds": 2.0 * len(active), "trained_s": 1.0 * len(active)}
        recipes = recipes_of(args)
        for number in active:
            found = json.dumps([recipes[number].learning_rate, recipes[number].method, rung])
            if number in self.failing:
                figures[failed_key(number)] = 1.0
            else:
                figures[metric_key(number)] = round(random.Random(found).random(), 4)
        paused = Progress(PAUSED, shares[rung], 1.0, "runs", figures, "waits")
        return replace(trial, state=State.INTERRUPTED, exit_code=0, progress=paused)

    def board(self) -> Leaderboard:
        return from_json((self.reports / "result.json").read_bytes(), Leaderboard)


def world(tmp_path: Path, name: str, deadly: set[tuple[int, int]] = frozenset()) -> World:  # type: ignore[assignment]
    (tmp_path / name).mkdir()
    return World(tmp_path / name, deadly, failing={3})


def test_a_search_killed_at_random_points_ends_with_the_same_leaderboard(tmp_path: Path) -> None:
    whole = world(tmp_path, "whole")
    assert whole.run() == 0
    expected = whole.board()
    assert expected.made == "mood:1"
    assert [len(row.metrics) for row in expected.trials].count(1) == 11
    assert {row.number: row.state for row in expected.trials}[3] in ("stopped", "failed")
    assert any(len(pack_of(one.spec.args)) > 1 for one in whole.trials.values())
    assert "polyline" in (whole.reports / "report.html").read_text()

    chance = random.Random(5)
    killed = world(tmp_path, "killed", {(0, 0), (7, 0), (expected.winner or 0, 1), (expected.winner or 0, 2)})
    kills = 0
    while killed.run(kill_after=chance.randint(2, 9) if kills < 4 else None) != 0:
        kills += 1
    assert kills == 4
    assert killed.board() == expected


def test_a_trial_that_is_killed_again_and_again_is_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    stubborn = world(tmp_path, "stubborn")

    def dies(trial: Process) -> Process:
        if trial.spec.args["number"] == 2:
            return replace(trial, state=State.INTERRUPTED, exit_code=-9, reason="ended by signal 9")
        return World.work(stubborn, trial)

    answer = stubborn.answer

    def with_kill(asked: Requested) -> list[Any]:
        if asked.act is not Act.KILL:
            return answer(asked)
        gone = exited(stubborn.trials[asked.pid])
        stubborn.trials[asked.pid] = gone
        return [Replied(asked.request_id, (gone,))]

    stubborn.work, stubborn.answer = dies, with_kill  # type: ignore[method-assign]
    assert stubborn.run() == 0
    states = {row.number: (row.state, row.note) for row in stubborn.board().trials}
    assert states[2] == ("failed", "ended by signal 9")
    assert stubborn.board().made == "mood:1"


@pytest.mark.parametrize("most", [1, 3])
def test_trials_that_find_no_room_together_train_in_smaller_packs(tmp_path: Path, most: int) -> None:
    whole, narrow = world(tmp_path, "whole"), world(tmp_path, "narrow")
    narrow.most_together = most
    assert (whole.run(), narrow.run()) == (0, 0)
    assert max(len(pack_of(one.spec.args)) for one in narrow.trials.values()) <= most
    metrics = [{row.number: row.metrics for row in one.board().trials} for one in (whole, narrow)]
    assert metrics[0] == metrics[1]


def test_a_trial_that_is_refused_for_its_settings_makes_no_pack_smaller(tmp_path: Path) -> None:
    whole, broken = world(tmp_path, "whole"), world(tmp_path, "broken")
    for one in (whole, broken):
        one.job = replace(one.job, args={**one.job.args, "methods": ["lora"], "budget": "32 trials"})
    broken.bad = {9}
    assert (whole.run(), broken.run()) == (0, 0)
    boards = [{row.number: row for row in one.board().trials} for one in (whole, broken)]
    assert (boards[1][9].state, boards[1][9].note) == ("failed", "there is no such rank")
    first = [{number: row.metrics[:1] for number, row in board.items() if number != 9} for board in boards]
    assert first[0] == first[1]
    packs = sorted(len(pack_of(one.spec.args)) for one in broken.trials.values())
    assert packs[-3:] == [8, 8, 8]


def test_a_refusal_that_says_nothing_of_a_trial_ends_the_search_for_now(tmp_path: Path) -> None:
    whole, full = world(tmp_path, "whole"), world(tmp_path, "full")
    answer, refused = full.answer, []

    def without_room(asked: Requested) -> list[Any]:
        if asked.act is Act.SUBMIT and not refused:
            refused.append(asked)
            return [Replied(asked.request_id, fault=Fault("disk_full", "the disk is full"))]
        return answer(asked)

    full.answer = without_room  # type: ignore[method-assign]
    assert full.run(may_fail=True) == 1
    assert (whole.run(), full.run()) == (0, 0)
    assert full.board() == whole.board()


def test_when_the_end_of_the_winner_fails_the_next_of_its_pack_is_made(tmp_path: Path) -> None:
    whole, broken = world(tmp_path, "whole"), world(tmp_path, "broken")
    for one in (whole, broken):
        one.job = replace(one.job, args={**one.job.args, "methods": ["lora"], "budget": "32 trials"})
    assert whole.run() == 0
    winner = whole.board().winner
    ended = []

    def fails(trial: Process) -> Process:
        args = trial.spec.args
        if args["rung"] == len(args["shares"]) and args["active"] == [winner]:
            ended.append(trial.pid)
            return replace(exited(trial), exit_code=1, fault=Fault("bad_row", "a test row is too long"))
        return World.work(broken, trial)

    broken.work = fails  # type: ignore[method-assign]
    broken.may_begin_again = True
    assert broken.run() == 0
    assert len(ended) == 1
    assert broken.board().made == "mood:1"
    assert broken.board().winner not in (winner, None)


def exited(trial: Process) -> Process:
    return replace(trial, state=State.EXITED)


@pytest.mark.parametrize("method", ["full", "lora", "head"])
def test_a_default_recipe_is_the_first_trial(tmp_path: Path, method: str) -> None:
    first = world(tmp_path, method)
    first.job = replace(first.job, args={**first.job.args, "methods": [method], "budget": "1 trial"})
    assert first.run() == 0
    (trial,) = first.trials.values()
    assert trial.spec.args["method"] == method
    assert trial.spec.args["shares"] == [1.0]
    assert trial.spec.args["warmup_share"] == 0.1
