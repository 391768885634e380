"""The answers that were given and not yet sent, in a file: what was added is on the disk, whatever ends the asking."""

from __future__ import annotations

import json
import os
from pathlib import Path

from llmos.abi.labelling import RowAnswer, read_answers


class AnswerFile:
    """A list of answers, written whole and atomically at each change; a file that is there is read first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.answers: list[RowAnswer] = []
        if path.exists():
            with path.open(encoding="utf-8") as lines:
                self.answers = list(read_answers(lines, str(path)))

    def add(self, answer: RowAnswer) -> None:
        """Append an answer; it is on the disk when this returns."""
        self.answers.append(answer)
        self._write()

    def undo(self) -> None:
        """Take the last answer back, if there is one."""
        if self.answers:
            self.answers.pop()
            self._write()

    def clear(self) -> None:
        """Forget all answers: they have been sent."""
        self.answers = []
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        aside = self.path.with_suffix(".tmp")
        with aside.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.writelines(f"{json.dumps(one.plain(), ensure_ascii=False)}\n" for one in self.answers)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)
