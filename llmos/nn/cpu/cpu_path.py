"""The CPU path of this process: the instruction set that its C kernels use."""

from __future__ import annotations

import os

from llmos.abi.cpu import AUTO, NONE, CpuPath, choose_path, features

_setting = AUTO


def use(setting: str) -> None:
    """From now on. A path that is forced bounds torch too, in a process that has computed nothing yet."""
    global _setting
    path = choose_path(setting, features())
    _setting = setting
    if path is not None and setting != AUTO:
        os.environ.update(path.environ)


def setting() -> str:
    """What was said: `auto`, `none` or a path's name."""
    return _setting


def is_forced() -> bool:
    """A path was asked for by name, so that nothing else may stand in for it."""
    return _setting not in (AUTO, NONE)


def path() -> CpuPath | None:
    """The path in use; None for no loops in C."""
    return choose_path(_setting, features())
