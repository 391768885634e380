"""One person's labelling at a terminal: rows, answers, undo, and one quiet line on what is trained with them."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.labelling import LabellingState, RowAnswer
from llmos.cli.answer_file import AnswerFile
from llmos.cli.label_exchange import Beside, Clients, Exchanged, LabelPlan, Show
from llmos.cli.label_text import estimate_line, names_in, row_lines, training_line
from llmos.cli.terminal import note, say
from llmos.cli.typed_label import HELP, KEYS, Typed, read_typed

if TYPE_CHECKING:
    from llmos.sdk.client import Client


class Keyboard:
    """Where answers are typed. What is piped in is not live: it answers rows in the order of the first queue."""

    def __init__(self) -> None:
        self.is_live = sys.stdin.isatty()

    def read(self) -> str | None:
        """A line; None at the end."""
        try:
            return input("> " if self.is_live else "")
        except EOFError:
            return None


class LabelSession:
    """Asks for one row after another. Answers are in a file at once; they are put in beside, while the person goes on.

    The queue is made anew when half of it is answered, and when a new version of the model is there. The row on the
    screen stays, and so does what can be undone.
    """

    def __init__(
        self, client: Client, clients: Clients, ref: str, plan: LabelPlan, given: AnswerFile, keyboard: Keyboard
    ) -> None:
        self.client, self.ref, self.plan, self.given, self.keyboard = client, ref, plan, given, keyboard
        self.beside = Beside(clients)
        self.rows: deque[Json] = deque()
        self.back: deque[Json] = deque()  # rows whose answers were taken back: they come first
        self.answered: list[Json] = []
        self.labels: list[str] = []
        self.is_many = False
        self.candidate = ""  # the version that the queue has asked
        self.unlabelled = 0
        self.training_said = ""

    def run(self) -> None:
        """Ask until the person stops or no row is left; what was answered is in the dataset then."""
        if self.given.answers:
            note(f"{len(self.given.answers):,} answers from before are put in first ({self.given.path})")
        if self.keyboard.is_live:
            note(KEYS)
        try:
            while self._has_row() and self._ask(self._next()):
                pass
            self._finish()
        except KeyboardInterrupt:
            if self.given.answers:
                note(
                    f"\n{len(self.given.answers):,} answers are kept ({self.given.path}). The next session puts them in"
                )
            raise

    def _next(self) -> Json:
        return self.back[0] if self.back else self.rows[0]

    def _has_row(self) -> bool:
        """Whether there is a row to ask; takes what has come beside, and waits for rows where none is left."""
        self._take(wait=False)
        if self.back or self.rows:
            if self.keyboard.is_live:
                self._look()
            return True
        self._begin()
        with self._showing() as show:
            found = self.beside.take(wait=True, show=show)
        self._go_on(found, is_awaited=True)
        return bool(self.rows)

    def _showing(self) -> AbstractContextManager[Show]:
        """How a person who waits sees how far it is."""
        if not (self.keyboard.is_live and sys.stderr.isatty()):
            return nullcontext(lambda process: None)
        from llmos.cli.progress import bar

        return bar()

    def _begin(self) -> None:
        if not self.beside.is_running:
            asked = [row["id"] for row in (*self.answered, *self.back)]
            self.beside.begin(self.plan, self.given, self.ref, asked, wants_rows=True)

    def _take(self, *, wait: bool) -> None:
        """Go over to the version and the rows that an exchange brought; its error is raised where rows are needed."""
        self._go_on(self.beside.take(wait=wait), is_awaited=wait)

    def _go_on(self, found: Exchanged | None, *, is_awaited: bool) -> None:
        if found is None:
            return
        self.ref = found.ref
        if found.said:
            note(found.said)
        if found.error is not None:
            if is_awaited:
                raise found.error
            note(f"The answers wait in {self.given.path}: {found.error.message}")
        elif found.queue is None:
            self.rows.clear()
        else:
            self._go_over(found)

    def _go_over(self, found: Exchanged) -> None:
        queue = found.queue
        done = {row["id"] for row in (*self.answered, *self.back)}
        self.rows = deque(row for row in queue["rows"] if row["id"] not in done)
        self.labels = list(dict.fromkeys([*queue["labels"], *self.labels]))
        self.is_many, self.unlabelled = bool(queue.get("is_multi")), queue["unlabelled"]
        self.candidate = (queue.get("candidate") or {}).get("ref", "")
        note(estimate_line(queue))

    def _look(self) -> None:
        """Say what is trained, and begin an exchange when it is time for one."""
        state = self._state()
        if state is not None and (line := training_line(self.plan.model, state)) != self.training_said:
            self.training_said = line
            note(line)
        newest = state.model.ref if state is not None and state.model is not None else ""
        is_half = len(self.rows) * 2 <= self.plan.n and bool(self.given.answers)
        if is_half or (newest not in ("", self.candidate) and not self.plan.is_second):
            self._begin()

    def _state(self) -> LabellingState | None:
        """How the training stands; None without a model, or while the daemon is away."""
        if not self.plan.model:
            return None
        try:
            return self.client.labelling(self.ref, model=self.plan.model, retrain=self.plan.retrain)
        except LlmosError:  # the next exchange says so
            return None

    def _ask(self, row: Json) -> bool:
        """Ask for one row, or take the last answer back; False to stop."""
        words = row.get("tokens")
        for line in row_lines(row, self.labels, len(self.answered) + 1):
            say(line)
        typed, comment = self._read(row)
        if typed is None or typed.command == "quit":
            return False
        if typed.command == "undo":
            self._undo()
            return True
        value = None if typed.command == "skip" else typed.value
        self.labels += [one for one in names_in(value, words) if one not in self.labels]
        self.given.add(RowAnswer(row["id"], value, self.plan.by, comment))
        (self.back or self.rows).popleft()
        self.answered.append(row)
        return True

    def _read(self, row: Json) -> tuple[Typed | None, str]:
        """What is typed at a row, with the comment before it; None at the end of the input."""
        words, comment = row.get("tokens"), ""
        values = [one["value"] for one in row["suggestions"]]
        while True:
            line = self.keyboard.read()
            if line is None:
                return None, comment
            try:
                count = None if words is None else len(words)
                typed = read_typed(line, self.labels, values, words=count, is_many=self.is_many)
            except BadInput as error:
                note(error.message)
                continue
            if typed.command == "help":
                for key, what in HELP.items():
                    say(f"  {key}: {what}")
                say(f"  labels: {', '.join(sorted(self.labels)) or 'none yet'}")
            elif typed.command == "comment":
                comment = typed.text
                note("The comment is kept with the answer to this row")
            else:
                return typed, comment

    def _undo(self) -> None:
        """Take the last answer back, also one that is in the dataset already; its row comes again."""
        if not self.answered:
            note("There is no answer to take back")
            return
        row = self.answered.pop()
        if not self.given.undo(row["id"]):
            self.given.add(RowAnswer(row["id"], None, self.plan.by))
        self.back.appendleft(row)

    def _finish(self) -> None:
        """Put the last answers in, and say what is trained."""
        self._take(wait=True)
        if self.given.answers:
            self.beside.begin(self.plan, self.given, self.ref, (), wants_rows=False)
            self._take(wait=True)
        state = self._state()
        if state is not None and (line := training_line(self.plan.model, state)):
            note(line)
