"""A teacher, a smaller base and a student through the real daemon, as a user makes and asks them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import tiny_training

from llmos.testing import tiny

pytestmark = pytest.mark.acceptance

HOW = {"method": "full", "epochs": 12, "learning_rate": 3e-3, "batch_size": 8, "learning_curve": False}
RUN = [part for name, value in HOW.items() for part in ("--set", f"{name}={str(value).lower()}")]


def test_a_student_is_made_killed_resumed_and_answers_as_its_teacher(new_house, tmp_path: Path) -> None:
    assert new_house("up").returncode == 0
    base = tiny.write(tmp_path / "tiny", "bert")
    rows = str(tiny_training.sorting(tmp_path, 240))
    bare = tmp_path / "bare.txt"
    bare.write_text("\n".join(f"xx {word} {i}" for i in range(8) for word in ("plum", "zinc", "hen")))
    assert new_house("pull", str(base), "--name", "tiny").returncode == 0
    taught = new_house("train", "classify", "--data", rows, "--name", "big", "--base", "tiny", *RUN)
    assert taught.returncode == 0, taught.stderr
    assert "tiny-1-layers:1 is ready: layers 0 of 3" in new_house("shrink", "tiny", "--layers", "1").stdout
    assert "tiny-static:1 is ready" in new_house("shrink", "tiny", "--static", "--dimensions", "16").stdout

    words = ("--data", rows, "--teacher", "big", "--unlabelled", str(bare), "--base", "tiny-1-layers", *RUN)
    with new_house.client() as client:
        begun = client.train("classify", data=rows, name="lost", base="tiny-1-layers", teacher="big", wait=False, **HOW)
        for event in client.watch(begun.pid):
            one = event.process
            if one is not None and one.progress is not None and one.progress.phase == "train":
                os.kill(one.os_pid, signal.SIGKILL)
                break
        for _ in client.watch(begun.pid):
            pass
        assert client.process(begun.pid).state == "interrupted"
        assert client.wait(client.resume(begun.pid).pid).made[-1] == "lost:1"
        done = new_house("train", "classify", *words, "--name", "small")
        assert done.returncode == 0, done.stderr
        shown = new_house("show", "small").stdout
        assert "distilled from" in shown
        assert "times its speed" in shown
        found = new_house.json("show", "small")["evidence"]["distillation"]
        assert (found["teacher"], found["unlabelled"]) == ("big:1", 24)
        refused = new_house("rm", "tiny:1")
        assert refused.returncode != 0
        told = [word for some in tiny_training.SIGNS.values() for word in some]
        asked = [f"{letter * 3} {word} 7" for letter in "uvwxyz" for word in told]
        big, small = ([one.label for one in client.run(ref, asked)] for ref in ("big", "small"))
        assert sum(mine == theirs for mine, theirs in zip(small, big, strict=True)) >= 0.7 * len(asked)
        assert len(client.run("tiny-static", "plum").vector) == 16
    assert new_house("down").returncode == 0
