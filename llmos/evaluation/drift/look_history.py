"""The looks of a monitor in a file, one a line: bounded, and a line that a crash has cut is left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from llmos.abi.error import LlmosError
from llmos.abi.monitoring import MOST_LOOKS, LookRecord
from llmos.abi.wire import from_json, to_json

MODE = 0o600  # the home is its owner's alone


class LookHistory:
    """The newest looks. The file is written anew once it has twice as many lines."""

    def __init__(self, path: Path, most: int = MOST_LOOKS) -> None:
        self._path, self._most = path, most
        data = path.read_bytes() if path.exists() else b""
        found = [_look_in(line) for line in data.splitlines()]
        self._lines = len(found)
        self._looks = deque((one for one in found if one is not None), maxlen=most)
        if None in found or (data and not data.endswith(b"\n")):
            self._rewrite()  # a cut line would spoil the next one

    @property
    def newest(self) -> Sequence[LookRecord]:
        """The oldest first."""
        return tuple(self._looks)

    def add(self, look: LookRecord) -> None:
        """Keep a look, here and in the file."""
        self._looks.append(look)
        if self._lines >= 2 * self._most:
            self._rewrite()
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=MODE)
        with self._path.open("ab") as file:
            file.write(to_json(look) + b"\n")
        self._lines += 1

    def _rewrite(self) -> None:
        write_whole(self._path, b"".join(to_json(one) + b"\n" for one in self._looks))
        self._lines = len(self._looks)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    draft.touch(mode=MODE)
    draft.write_bytes(data)
    draft.replace(path)


def _look_in(line: bytes) -> LookRecord | None:
    try:
        return from_json(line, LookRecord)
    except LlmosError:
        return None
