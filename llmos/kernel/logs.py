"""The logs of processes: one file each, which its children write to and which is read here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

LOOK_EVERY_S = 0.2
TAIL_BLOCK_BYTES = 1 << 16


def log_path(home: Path, pid: int) -> Path:
    return home / "logs" / f"{pid}.log"


def read_log(path: Path, tail_lines: int | None = None) -> str:
    """The whole log, or its last lines; empty if nothing was ever written."""
    try:
        with path.open("rb") as file:
            return file.read().decode("utf-8", "replace") if tail_lines is None else _tail(path, tail_lines)
    except FileNotFoundError:
        return ""


async def follow_log(path: Path, is_over: Callable[[], bool]) -> AsyncGenerator[str, None]:
    """The log from its start, piece by piece as it grows; `is_over` says when nobody writes to it any more."""
    position, was_over = 0, False
    while True:
        text, position = await asyncio.to_thread(_read_from, path, position)
        if text:
            yield text
        elif was_over:
            return
        else:
            was_over = is_over()  # look once more after that: the last words may just have come
            if not was_over:
                await asyncio.sleep(LOOK_EVERY_S)


def _read_from(path: Path, position: int) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            file.seek(position)
            data = file.read(TAIL_BLOCK_BYTES)
    except FileNotFoundError:
        return "", position
    whole = data.rfind(b"\n") + 1 if len(data) == TAIL_BLOCK_BYTES and b"\n" in data else len(data)
    return data[:whole].decode("utf-8", "replace"), position + whole


def _tail(path: Path, lines: int) -> str:
    if lines <= 0:
        return ""
    with path.open("rb") as file:
        start = file.seek(0, 2)
        data = b""
        while start > 0 and data.count(b"\n") <= lines:
            step = min(TAIL_BLOCK_BYTES, start)
            start = file.seek(start - step)
            data = file.read(step) + data
    return b"".join(data.splitlines(keepends=True)[-lines:]).decode("utf-8", "replace")
