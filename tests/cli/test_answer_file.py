"""Answers that were given are on the disk, whatever ends the asking."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.abi.labelling import RowAnswer
from llmos.cli.answer_file import AnswerFile

GIVES = """
import sys
from pathlib import Path
from llmos.abi.labelling import RowAnswer
from llmos.cli.answer_file import AnswerFile
given = AnswerFile(Path(sys.argv[1]))
for number in range(100_000):
    given.add(RowAnswer(f"{number:016x}", "label", "ada"))
    print(number, flush=True)
"""


def test_what_was_added_before_a_kill_is_there_after_it(tmp_path):
    path = tmp_path / "labelling" / "rows.jsonl"
    for _ in range(3):
        before = len(AnswerFile(path).answers)
        with subprocess.Popen([sys.executable, "-c", GIVES, str(path)], stdout=subprocess.PIPE, text=True) as asking:
            said = [int(asking.stdout.readline()) for _ in range(25)]
            asking.send_signal(signal.SIGKILL)
            said += [int(line) for line in asking.stdout if line.endswith("\n")]
        kept = AnswerFile(path).answers
        assert len(kept) >= before + len(said)
        assert [one.id for one in kept[before:]] == [f"{number:016x}" for number in range(len(kept) - before)]
    assert path.stat().st_mode & 0o777 == 0o600


STEPS = st.lists(st.sampled_from(["add", "undo", "clear", "open"]), max_size=20)


@settings(max_examples=40)
@given(STEPS)
def test_the_file_always_has_what_a_list_would_have(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("answers") / "rows.jsonl"
    kept, wanted = AnswerFile(path), []
    for number, step in enumerate(steps):
        if step == "add":
            one = RowAnswer(f"{number:x}", None if number % 3 else ["a", "b"], "ada", "so")
            kept.add(one)
            wanted.append(one)
        elif step == "undo":
            assert kept.undo(wanted[-1].id if wanted else "0") == bool(wanted)
            wanted = wanted[:-1]
        elif step == "clear":
            kept.clear()
            wanted = []
        else:
            kept = AnswerFile(path)
        assert kept.answers == wanted
        assert AnswerFile(path).answers == wanted


def test_a_file_that_somebody_has_spoiled_is_refused_by_its_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "value": "b"}\nspoiled\n')
    with pytest.raises(BadInput) as raised:
        AnswerFile(path)
    assert raised.value.detail["line"] == 2


def test_an_answer_that_is_being_sent_is_not_undone_and_stays_until_it_has_arrived(tmp_path):
    path = tmp_path / "rows.jsonl"
    one, two = RowAnswer("1", "a"), RowAnswer("2", "b")
    given = AnswerFile(path)
    assert given.begin_sending() is None
    given.add(one)
    copy = given.begin_sending()
    assert AnswerFile(copy).answers == [one]
    given.add(two)
    assert not given.undo("1")
    assert given.undo("2")
    assert not given.undo("1")
    given.add(two)
    given.end_sending(arrived=False)
    assert given.answers == AnswerFile(path).answers == [one, two]
    given.begin_sending()
    given.add(one)
    given.end_sending(arrived=True)
    assert given.answers == AnswerFile(path).answers == [one]
    assert not copy.exists()
