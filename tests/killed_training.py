"""A process that forks trainers and kills one of them at random steps; it prints what each run ended with."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import tiny_training
from safetensors.torch import load_file

from llmos.abi.frame import FromChild, Job, Report
from llmos.abi.process import Progress
from llmos.abi.recipe import UNLABELLED
from llmos.programs.channel import Channel
from llmos.testing.daemon import FakeDaemon

KILLS = 5
FEW: dict[str, dict[str, Any]] = {  # Any: settings of a recipe
    "pairs": {"contrastive": True},
    "unlabelled": {"self_training_rounds": 2, "contrastive": False},
    "unlabelled pairs": {"self_training_rounds": 2, "contrastive": True},
    "unlabelled views": {"contrastive": True, "views": 1.0},
}
# reports between two kills at most: runs of several fits are killed in several of them, and none ends before
REPORTS = {"pairs": 15, "unlabelled": 14, "unlabelled pairs": 32, "unlabelled views": 32}
STEPPING = ("train", UNLABELLED, "fit head")  # the phases of which every step is said


class EveryStep(Channel):
    """A channel that says every step, so that a run is killed after so many steps, however fast it makes them."""

    def report(self, progress: Progress) -> None:
        self.send(Report(progress))


def main(folder: Path, *runs: str) -> None:
    """Print what each run (`method-task`, or `method-task-way` of FEW) ended with, in peace and killed."""
    print(json.dumps({run: ends_of(folder / run, *run.split("-")) for run in runs}))


def ends_of(folder: Path, method: str, task: str, way: str = "") -> dict[str, object]:
    """The same recipe twice, once in peace."""
    folder.mkdir()
    path = tiny_training.naming(folder, rows=60) if task == "tag" else tiny_training.sorting(folder, rows=90)
    recipe = {"task": task, "method": method, "epochs": 3.0, "checkpoint_every_s": 1e-9, "data": {"train": str(path)}}
    recipe |= FEW.get(way, {})
    if way.startswith("unlabelled"):
        rest = tiny_training.unlabelled(folder, task)
        recipe |= {"data": {"train": str(path), "unlabelled": str(rest)}}
    most = REPORTS.get(way, 5)
    base = tiny_training.base(folder, "llama" if task == "generate" else "bert")
    found: dict[str, object] = {}
    for name in ("undisturbed", "killed"):
        told = tiny_training.assignment(folder, recipe, base=base)
        chance = random.Random(f"{method} {name}")
        kills = 0
        while not complete(told, chance.randint(1, most) if name == "killed" and kills < KILLS else None):
            kills += 1
        model = Path(told.scratch) / "model"
        found[name] = {file.name: bits_of(file) for file in sorted(model.glob("*.safetensors"))}
        found["kills"] = kills
        Path(told.scratch).rename(folder / name)
    return found


def bits_of(file: Path) -> str:
    """A digest of the tensors alone: the order of a safetensors file's notes is not its own."""
    seen = hashlib.sha256()
    for name, tensor in sorted(load_file(file).items()):
        seen.update(name.encode() + tensor.numpy().tobytes())
    return seen.hexdigest()


def complete(told: Job, reports: int | None) -> bool:
    """Fork a trainer; kill it after so many reports of what it learns. True if it came to its end."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        be_trainer(theirs, told)
    theirs.close()
    seen = 0

    def on_frame(frame: FromChild) -> None:
        nonlocal seen
        seen += isinstance(frame, Report) and frame.progress.phase in STEPPING
        if seen == reports:
            os.kill(pid, signal.SIGKILL)

    daemon = FakeDaemon(ours, on_frame)
    _, status = os.waitpid(pid, 0)
    daemon.join()
    if os.WIFSIGNALED(status):
        return False
    assert status == 0, "the trainer failed"
    return True


def be_trainer(sock: socket.socket, told: Job) -> None:
    try:
        import_module(f"llmos.programs.{told.program}").main(EveryStep(sock), told)
    except BaseException:  # noqa: BLE001  # the top of a child: it must end here, whatever happened
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
