"""An upgrade in place: the daemon ends, other code runs on the same home, and a training goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import MAIN, TREE, House, pulled

from llmos.abi.model import Part
from llmos.abi.process import State
from llmos.kernel.home_format import FORMAT, PAGE

pytestmark = pytest.mark.acceptance
LATER = "99.0.0"


@dataclass(frozen=True)
class Upgraded:
    """The command line of another code tree, on a house's home."""

    house: House
    tree: Path

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "LLMOS_HOME": str(self.house.home), "LLMOS_PORT": str(self.house.port)}
        command = [sys.executable, "-c", MAIN, *words]
        environ["PYTHONPATH"] = str(self.tree)
        return subprocess.run(
            command, env=environ, cwd=self.tree, capture_output=True, text=True, timeout=580, check=False
        )


@pytest.fixture
def later(new_house: House, tmp_path: Path) -> Upgraded:
    """A later llmos: this one's code in another folder, with a later version."""
    tree = tmp_path / "later"
    shutil.copytree(TREE / "llmos", tree / "llmos", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for loops in (TREE / "llmos" / "nn" / "cpu").glob("kernels-*.so"):
        shutil.copy2(loops, tree / "llmos" / "nn" / "cpu")
    page = tree / "llmos" / "__init__.py"
    page.write_text(page.read_text().replace('__version__ = "', f'__version__ = "{LATER}"  # "'))
    return Upgraded(new_house, tree)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    lines = [f"where is my {word} number {number},{word}" for number in range(20) for word in ("parcel", "invoice")]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


def steps(box, pid: int) -> Iterator[float]:
    """The steps that a training says it has done, while it trains."""
    for event in box.watch(pid):
        process = event.process
        if process and process.state is State.READY and process.progress and process.progress.phase == "train":
            yield process.progress.done


def until_it_trains(box, pid: int) -> float:
    """Wait until it has done a few steps; how many."""
    return next(done for done in steps(box, pid) if done >= 5)


def train(box, rows: Path, name: str) -> int:
    options = {"epochs": 2, "batch_size": 4, "save_best": False, "checkpoint_every_s": 0.2, "seed": 3}
    return box.train("classify", data=rows, validation=rows, test=rows, name=name, wait=False, **options).pid


def ended(box, pid: int, name: str):
    """The digests of what a training made, once it has ended."""
    for _ in box.watch(pid):
        pass
    process = box.process(pid)
    assert (process.state, process.made[-1:]) == (State.EXITED, (f"{name}:1",)), process
    return {file.path: file.digest for file in box.model(f"{name}:1").files if file.part in (Part.WEIGHTS, Part.HEAD)}


def test_a_training_goes_on_under_later_code_to_the_same_bits(new_house: House, later: Upgraded, rows: Path):
    assert new_house("up", "--set", "log_level=debug").returncode == 0
    pulled(new_house, "minilm")
    with new_house.client() as box:
        undisturbed = ended(box, train(box, rows, "before"), "before")
        asked = box.run("before:1", "where is my invoice")
        pid = train(box, rows, "across")
        done = until_it_trains(box, pid)

    restarted = later("restart")

    assert restarted.returncode == 0, restarted.stderr
    assert f"llmos {LATER} is up" in restarted.stdout
    assert f"process {pid} goes on" in restarted.stdout
    with new_house.client() as box:
        assert box.status().version == LATER
        assert b"--log-level=debug" in Path(f"/proc/{box.status().os_pid}/cmdline").read_bytes()
        first = next(one for one in steps(box, pid))
        assert first >= done, "it went on from its checkpoint, not from its start"
        assert ended(box, pid, "across") == undisturbed
        assert box.run("before:1", "where is my invoice") == asked
        assert box.run("across:1", "where is my invoice").label == asked.label
    assert json.loads((new_house.home / PAGE).read_text()) == {"format": FORMAT, "version": LATER}


def test_a_home_that_later_code_has_changed_is_refused_before_anything_is_stopped(new_house: House):
    assert new_house("up", LLMOS_ENGINE="null").returncode == 0
    (new_house.home / PAGE).write_text(json.dumps({"format": FORMAT + 1, "version": LATER}))
    with new_house.client() as box:
        os_pid = box.status().os_pid
        refused = new_house("restart")
        assert (refused.returncode, LATER in refused.stderr) == (1, True)
        assert box.status().os_pid == os_pid
    assert new_house("down").returncode == 0
    refused = new_house("up", LLMOS_ENGINE="null")
    assert (refused.returncode, LATER in refused.stderr) == (1, True)
    (new_house.home / PAGE).unlink()
