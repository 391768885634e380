"""Logs are rotated by size and swept, and lose no line by it, whoever writes to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmos.abi.stdio import LogOutput
from llmos.kernel.children.log_reader import read_log
from llmos.kernel.children.logs import (
    Limits,
    Logs,
    daemon_log,
    log_path,
    rotate,
    rotated_numbers,
    rotated_path,
    surplus,
)

LIMITS = Limits(10, 4)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def fill(path: Path, times: int) -> None:
    for number in range(times):
        with path.open("a") as file:
            file.write(f"line {number:05}\n")
        rotate(path, LIMITS)


def test_a_log_that_is_not_full_stays_one_file(home: Path) -> None:
    log = log_path(home, 7)
    log.write_text("123456789")
    assert not rotate(log, LIMITS)
    assert not rotate(log_path(home, 8), LIMITS), "nothing was written yet"
    assert [one.name for one in log.parent.iterdir()] == ["7.log"]


def test_a_full_one_gets_a_number_that_it_keeps(home: Path) -> None:
    log = log_path(home, 7)
    fill(log, 2)
    assert (rotated_numbers(log), log.exists()) == ([1, 2], False)
    assert rotated_path(log, 1).read_text() == "line 00000\n"
    assert rotated_numbers(log_path(home, 77)) == []


def test_the_first_file_of_a_process_and_the_newest_are_kept(home: Path) -> None:
    log = log_path(home, 7)
    fill(log, 9)
    assert rotated_numbers(log) == [1, 8, 9], "with the one that is written to next those are four"
    assert read_log(log) == (
        "line 00000\n[... 6 full files of this log were removed here ...]\nline 00007\nline 00008\n"
    )


def test_of_the_daemons_log_the_newest_are_kept(home: Path) -> None:
    log = daemon_log(home)
    for _ in range(9):
        log.write_text("1234567890")
        rotate(log, LIMITS, keeps_first=False)
    assert rotated_numbers(log) == [7, 8, 9]


def test_who_prints_to_a_log_moves_on_to_its_next_file(home: Path) -> None:
    log = log_path(home, 7)
    with log.open("ab") as opened:
        output = LogOutput(log, [opened.fileno()])
        os.write(opened.fileno(), b"0123456789\n")
        assert not output.reopen()
        assert rotate(log, LIMITS)
        os.write(opened.fileno(), b"late\n")
        assert output.reopen()
        os.write(opened.fileno(), b"next\n")
        log.unlink()  # somebody tidies up
        assert output.reopen()
        os.write(opened.fileno(), b"last\n")
    assert (rotated_path(log, 1).read_text(), log.read_text()) == ("0123456789\nlate\n", "last\n")
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_opened_again_is_written_to_where_it_is(home: Path) -> None:
    log = log_path(home, 7)
    with log.open("ab") as opened:
        output = LogOutput(log, [opened.fileno()])
        log.parent.rename(home / "moved")
        assert not output.reopen()
        os.write(opened.fileno(), b"still here\n")
    assert (home / "moved" / "7.log").read_text() == "still here\n"


@pytest.mark.parametrize("number", [0, 1, 12])
def test_a_process_knows_its_log_by_name_also_when_it_was_rotated_before_it_looked(home: Path, number: int) -> None:
    log = log_path(home, 7)
    look = "from llmos.abi.stdio import LogOutput; print('old'); print(LogOutput.from_fd().reopen(), flush=True)"
    with log.open("ab") as opened:
        if number:
            log.rename(rotated_path(log, number))
        subprocess.run([sys.executable, "-u", "-c", look], stdout=opened, check=True)
    assert read_log(log) == ("old\nTrue\n" if number else "old\nFalse\n")
    assert log.read_text() == ("True\n" if number else "old\nFalse\n")


def test_what_is_no_log_is_never_opened_again(home: Path) -> None:
    with (home / "notes.txt").open("wb") as opened:
        assert not LogOutput.from_fd(opened.fileno()).reopen()
    assert not LogOutput.of(daemon_log(home)).reopen(), "these tests print elsewhere"
    assert not daemon_log(home).exists()


def test_a_tick_rotates_the_logs_of_daemon_zygote_and_living_processes(home: Path) -> None:
    for name in ("daemon", "zygote", "1", "2"):
        (home / "logs" / f"{name}.log").write_text("1234567890")
    Logs(home, LIMITS).tick([1])
    assert sorted(path.name for path in (home / "logs").iterdir()) == [
        "1.log.1",
        "2.log",
        "daemon.log.1",
        "zygote.log.1",
    ]


def test_the_oldest_logs_of_ended_processes_go_when_all_together_are_too_large(home: Path) -> None:
    for pid in (1, 2, 3, 4):
        for path in (log_path(home, pid), rotated_path(log_path(home, pid), 1)):
            path.write_bytes(b"12345")
            os.utime(path, (1000 - pid, 1000 - pid))  # the first has written last
    assert {path.name for path, _ in surplus(home, {1, 2, 3, 4}, {1, 2, 3}, 25)} == {"3.log", "3.log.1"}
    assert Logs(home, LIMITS).sweep({2, 3, 4}, {2, 3}) == 10, "the first is forgotten"
    assert len(list((home / "logs").iterdir())) == 6


WRITER = """
import os, sys
from pathlib import Path
from llmos.abi.stdio import LogOutput
from llmos.kernel.children.logs import Limits, rotate
log = Path(sys.argv[1])
output = LogOutput.from_fd()
for number in range(10 ** 9):
    os.write(1, b"%d\\n" % number)
    rotate(log, Limits(500, 1000))
    output.reopen()
    if number == 3000:
        os.write(2, b"3000 lines\\n")
"""


@pytest.mark.parametrize("more", range(3))
def test_a_kill_amid_rotations_leaves_every_line_once_and_in_order(home: Path, more: int) -> None:
    log = log_path(home, 7)
    with log.open("ab") as sink:
        command = [sys.executable, "-c", WRITER, str(log)]
        # Its standard error becomes the log too with the first rotation, so the pipe ends when that comes.
        writer = subprocess.Popen(command, stdout=sink, stderr=subprocess.PIPE)
    assert writer.stderr is not None
    assert writer.stderr.read() == b""
    while len(rotated_numbers(log)) < 20 + more:
        assert writer.poll() is None
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stderr.close()
    *lines, last = [line for line in read_log(log).split("\n") if line != "3000 lines"]
    assert len(lines) > 20 * 100
    assert lines == [str(number) for number in range(len(lines))]
    assert str(len(lines)).startswith(last)
