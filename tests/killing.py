"""Kills a function at steps on the disk from its first to its last, as `kill -9` does, in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

STEPS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.chmod")


STRIDE = 11  # of some hundred steps, each of which would take a process


def killed_along_the_way(work: Callable[[], object]) -> Iterator[int]:
    """Run it again and again, and kill it some steps later each time, until a run ends by itself."""
    step = 1 - STRIDE
    while True:
        step += STRIDE
        child = os.fork()
        if child == 0:
            _run_until(step, work)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield step


def _run_until(step: int, work: Callable[[], object]) -> None:
    left = [step]

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in STEPS:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = lambda fd: None  # a kill loses nothing that the system has, and a disk is slow to sync
    sys.addaudithook(hook)
    try:
        work()
    except BaseException:  # noqa: BLE001  # the top of a process: its failure is its exit code
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)
