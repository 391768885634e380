"""The CPU path of this process: the instruction set that its C kernels use."""

from __future__ import annotations

import os

from llmos.abi.cpu import AUTO, NONE, CpuPath, choose_path, features

_setting = AUTO


def use(setting: str) -> None:
    """Set the CPU path for this process, before it computes anything. A forced path limits torch's instructions too."""
    global _setting
    path = choose_path(setting, features())
    _setting = setting
    if path is not None and setting != AUTO:
        os.environ.update(path.environ)


def setting() -> str:
    """The setting's value: `auto`, `none` or a path's name."""
    return _setting


def is_forced() -> bool:
    """Whether a path was set by name, so that no other may replace it."""
    return _setting not in (AUTO, NONE)


def path() -> CpuPath | None:
    """The CPU path in use; None without C kernels."""
    return choose_path(_setting, features())
