"""The answers that were given and not yet sent, in a file: what was added is on the disk, whatever ends the asking."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from threading import RLock

from llmos.abi.labelling import RowAnswer, read_answers


class AnswerFile:
    """A list of answers, written whole and atomically at each change; a file that is there is read first.

    Those that are being sent stay in it until they have arrived, so a crash meanwhile sends them once more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.answers: list[RowAnswer] = []
        self._sending = 0  # the first ones
        self._lock = RLock()  # answers are sent in another thread than they are given in
        if path.exists():
            with path.open(encoding="utf-8") as lines:
                self.answers = list(read_answers(lines, str(path)))

    def add(self, answer: RowAnswer) -> None:
        """Append an answer; it is on the disk when this returns."""
        with self._lock:
            self.answers.append(answer)
            self._write()

    def undo(self, row: str) -> bool:
        """Take the last answer back; False if it is to another row, or being sent, or if there is none."""
        with self._lock:
            if len(self.answers) <= self._sending or self.answers[-1].id != row:
                return False
            self.answers.pop()
            self._write()
            return True

    def clear(self) -> None:
        """Forget all answers: they have been sent."""
        with self._lock:
            self.answers = []
            self._sending = 0
            self.path.unlink(missing_ok=True)

    def begin_sending(self) -> Path | None:
        """A file of the answers so far, which are being sent from now on; None without any."""
        with self._lock:
            self._sending = len(self.answers)
            if not self.answers:
                return None
            copy = self.path.with_suffix(".sending.jsonl")
            _write(copy, self.answers)
            return copy

    def end_sending(self, *, arrived: bool) -> None:
        """Forget those that were being sent, if they have arrived."""
        with self._lock:
            if arrived:
                self.answers = self.answers[self._sending :]
                if self.answers:
                    self._write()
                else:
                    self.path.unlink(missing_ok=True)
            self._sending = 0
            self.path.with_suffix(".sending.jsonl").unlink(missing_ok=True)

    def _write(self) -> None:
        _write(self.path, self.answers)


def _write(path: Path, answers: Sequence[RowAnswer]) -> None:
    aside = path.with_suffix(".tmp")
    with aside.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.writelines(f"{json.dumps(one.plain(), ensure_ascii=False)}\n" for one in answers)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
