"""Labelling at a terminal: rows, answers and undo stay while answers are put in and a model is trained beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import LlmosError, Unavailable
from llmos.abi.labelling import LabelledModel, LabellingState, LabelTraining, read_answers
from llmos.abi.process import DONE, Process, Program, Progress, Spec
from llmos.cli.answer_file import AnswerFile
from llmos.cli.label_exchange import LabelPlan
from llmos.cli.label_session import LabelSession

LABELS = ["refund", "repair"]


class Box:
    """A daemon with rows without labels; `answers` has, by row, what was put in last."""

    url = "http://127.0.0.1:1"

    def __init__(self, rows: int) -> None:
        self.rows = [f"{i:016x}" for i in range(rows)]
        self.answers: dict[str, Any] = {}  # Any: values of answers
        self.version, self.is_away = 1, False
        self.model: LabelledModel | None = None
        self.training: LabelTraining | None = None
        self.asked: list[dict[str, Any]] = []  # the arguments of each operation
        self.queued: list[dict[str, Any]] = []  # and of each queue

    @property
    def left(self) -> list[str]:
        return [one for one in self.rows if self.answers.get(one) is None]

    def label_dataset(self, ref: str, answers: str, **args: Any) -> Process:
        self._answer()
        self.asked.append({"ref": ref, **args})
        with Path(answers).open() as lines:
            self.answers |= {one.id: one.value for one in read_answers(lines, answers)}
        self.version += 1
        made = (f"rows@{self.version}",)
        return Process(9, Spec(Program("label-data")), made=made, progress=Progress(DONE, message="put in"))

    def queue_dataset(self, ref: str, *, without: Any = (), n: int = 20, **args: Any) -> Any:
        self._answer()
        self.queued.append(args)
        rows = [one for one in self.left if one not in without]
        suggestions = [{"value": "repair", "confidence": 0.75}]
        return {
            "labels": LABELS,
            "labelled": len(self.rows) - len(self.left),
            "unlabelled": len(rows),
            "estimate": None,
            "candidate": None if self.model is None else {"ref": self.model.ref, "estimate": None},
            "rows": [{"id": one, "text": f"text {one}", "suggestions": suggestions} for one in rows[:n]],
        }

    def labelling(self, ref: str, **args: Any) -> LabellingState:
        self._answer()
        return LabellingState(ref, 0, len(self.left), self.model, self.training, next_at=50)

    def status(self) -> Any:
        self._answer()

    def _answer(self) -> None:
        if self.is_away:
            raise Unavailable("no daemon", url=self.url)


class Typed:
    """Lines as they are typed; a function is called, and nothing typed."""

    is_live = True

    def __init__(self, *lines: str | Callable[[], None]) -> None:
        self.lines = list(lines)

    def read(self) -> str | None:
        while self.lines and callable(self.lines[0]):
            self.lines.pop(0)()  # type: ignore[operator]  # mypy forgets what was asked a line above
        return str(self.lines.pop(0)) if self.lines else None


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box is announced as this machine's daemon: it reads answers where they are."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "daemon.json").write_text(json.dumps({"url": Box.url}))


def session(box: Box, folder: Path, keyboard: Typed, *, n: int = 4, model: str | None = None) -> LabelSession:
    @contextmanager
    def clients() -> Iterator[Any]:
        yield box

    anything: Any = box  # Any: as much of a client as a session asks
    keys: Any = keyboard
    plan = LabelPlan("ada", n, "margin", model=model)
    return LabelSession(anything, clients, "rows", plan, AnswerFile(folder / "rows.jsonl"), keys)


def test_every_row_is_asked_once_and_every_answer_is_in_the_dataset(tmp_path):
    box = Box(11)
    session(box, tmp_path, Typed(*["refund"] * 11)).run()
    assert box.answers == dict.fromkeys(box.rows, "refund")
    assert not (tmp_path / "rows.jsonl").exists()
    assert list(tmp_path.glob("*.sending*")) == []


def test_answers_are_put_in_while_the_person_goes_on(tmp_path):
    box, seen = Box(8), []
    typed = Typed("1", "1", "1", lambda: seen.append(len(box.answers)), "1", "1", lambda: seen.append(len(box.answers)))
    one = session(box, tmp_path, typed, n=4)
    one.run()
    assert seen[-1] >= 2
    assert len(box.answers) == 5


def test_what_is_taken_back_comes_again_also_where_it_was_put_in(tmp_path):
    box = Box(6)
    put_in: list[Any] = []

    def wait() -> None:
        one.beside.take(wait=True)  # as at the next row, but at once
        put_in.append(dict(box.answers))

    typed = Typed("refund", "refund", "refund", wait, "/u", "/u", "/u", "/u", "repair", "/q")
    one = session(box, tmp_path, typed, n=4)
    one.run()
    assert len(put_in[0]) >= 2
    assert box.answers[box.rows[0]] == "repair"
    assert box.answers.get(box.rows[1]) is None
    assert box.answers.get(box.rows[2]) is None


def test_a_person_who_stops_keeps_what_was_answered(tmp_path):
    box = Box(6)
    session(box, tmp_path, Typed("refund", "/s", "repair", "/q")).run()
    assert [box.answers[one] for one in box.rows[:3]] == ["refund", None, "repair"]


def test_a_second_opinion_is_asked_also_where_all_rows_have_labels(tmp_path, capsys):
    box = Box(3)
    one = session(box, tmp_path, Typed("refund", "/q"), model="sorter")
    one.plan = replace(one.plan, is_second=True)
    box.labelling = lambda ref, **args: LabellingState(ref, 3, 0)  # type: ignore[method-assign]
    one.run()
    assert {args["second"] for args in box.queued} == {"ada"}
    assert len(box.answers) == 1


def test_who_leaves_by_ctrl_c_is_told_where_the_answers_are(tmp_path, capsys):
    def leave() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session(Box(6), tmp_path, Typed("refund", leave)).run()
    said = capsys.readouterr().err
    assert "1 answers are kept" in said
    assert str(tmp_path / "rows.jsonl") in said


def test_a_person_is_told_the_keys_and_the_labels(tmp_path, capsys):
    session(Box(6), tmp_path, Typed("/?", "/q")).run()
    said = capsys.readouterr()
    assert "/? shows all keys" in said.err
    assert "labels: refund, repair" in said.out


def test_a_daemon_that_goes_away_loses_nothing(tmp_path):
    box = Box(8)

    def go_away() -> None:
        box.is_away = True

    typed = Typed("refund", "refund", go_away, *["repair"] * 6)
    with pytest.raises(LlmosError):
        session(box, tmp_path, typed).run()
    kept = AnswerFile(tmp_path / "rows.jsonl").answers
    box.is_away = False
    assert len(kept) + len(box.answers) >= 4
    session(box, tmp_path, Typed("/q")).run()
    assert set(box.answers) >= {one.id for one in kept}


def test_the_queue_goes_over_to_a_new_version_and_the_line_says_what_is_trained(tmp_path, capsys):
    box = Box(30)

    def train() -> None:
        box.training = LabelTraining(7, "ready", 50)

    def finish() -> None:
        box.training = LabelTraining(7, "exited", 50)
        box.model = LabelledModel("sorter:1", 50, "accuracy", 0.8, 0.7, 0.9)

    typed = Typed("1", train, "1", "1", finish, "1", "1", "/q")
    one = session(box, tmp_path, typed, n=20, model="sorter")
    one.run()
    said = capsys.readouterr().err
    assert "sorter is being trained on 50 labels (pid 7)" in said
    assert "sorter:1 has learned 50 labels: accuracy 0.800 (0.700 to 0.900), a candidate" in said
    assert said.count("sorter:1 has learned") == 2  # when it came, and at the end
    assert len(box.answers) == 5


STEPS = st.lists(st.sampled_from(["refund", "repair", "/s", "/u", "/c why", "2", "nonsense"]), max_size=40)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_the_dataset_ends_with_what_was_typed_last_of_each_row(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("session")
    box, wanted, order = Box(60), {}, []
    session(box, folder, Typed(*steps, "/q"), n=6).run()
    # The same, by a list: rows come in their order, and one that is taken back comes next.
    coming = list(box.rows)
    for step in steps:
        if step == "/u":
            if order:
                last = order.pop()
                coming.insert(0, last)
                wanted[last] = None
        elif step in ("refund", "repair", "/s"):
            row = coming.pop(0)
            order.append(row)
            wanted[row] = None if step == "/s" else step
    assert {row: value for row, value in box.answers.items() if value is not None} == {
        row: value for row, value in wanted.items() if value is not None
    }
