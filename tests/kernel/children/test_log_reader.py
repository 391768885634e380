"""Whoever reads a log reads one text, whole and once, while its files are rotated below."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.stdio import LogOutput
from llmos.kernel.children.log_reader import LogReader, follow_log, read_log
from llmos.kernel.children.logs import Limits, rotate, rotated_numbers, rotated_path

ALL = Limits(1, 1000)  # every file is full, and none is removed
LINES = st.sampled_from(["one\n", "zwölf\n", "\n", "an end that is no line", "日本\n", "x" * 70_000 + "\n"])
STEPS = st.lists(st.one_of(LINES, st.sampled_from(["rotate", "reopen", "read"])), max_size=60)


class Written:
    """A log, a process that writes to it and looks for its name now and then, and all that was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = b""
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._output = LogOutput(path, [self._fd])

    def write(self, text: str) -> None:
        self.text += text.encode()
        os.write(self._fd, text.encode())

    def reopen(self) -> None:
        self._output.reopen()

    def close(self) -> None:
        os.close(self._fd)


def everything(reader: LogReader) -> bytes:
    return b"".join(iter(reader.read, b""))


@settings(deadline=None)
@given(STEPS)
def test_a_reader_gets_every_line_once_and_in_order_across_rotations(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = Written(Path(folder) / "7.log")
        reader, read = LogReader(written.path), b""
        for step in steps:
            match step:
                case "rotate":
                    rotate(written.path, ALL)
                case "reopen":
                    written.reopen()
                case "read":
                    read += everything(reader)
                case _:
                    written.write(step)
        read += everything(reader)
        reader.close()
        written.close()
        assert read == written.text
        assert read_log(written.path).encode() == written.text
        for lines in (1, 2, 5):
            assert read_log(written.path, lines).encode() == b"".join(_lines(written.text)[-lines:])
            late = LogReader(written.path, lines)
            assert everything(late) == b"".join(_lines(written.text)[-lines:])
            late.close()


def _lines(text: bytes) -> list[bytes]:
    return [line + b"\n" for line in text.split(b"\n")[:-1]] + [line for line in text.split(b"\n")[-1:] if line]


@pytest.mark.slow
def test_a_reader_keeps_up_with_a_writer_that_is_rotated_all_the_time(tmp_path: Path) -> None:
    written = Written(tmp_path / "7.log")

    def write() -> None:
        for number in range(5000):
            written.write(f"line {number}\n")
            if number % 3 == 0:
                rotate(written.path, Limits(50, 10_000))
            if number % 7 == 0:
                written.reopen()

    async def follow() -> str:
        thread = threading.Thread(target=write)
        thread.start()
        text = "".join([piece async for piece in follow_log(written.path, lambda: not thread.is_alive())])
        thread.join()
        return text

    assert asyncio.run(follow()).encode() == written.text
    assert len(rotated_numbers(written.path)) > 100
    written.close()


def test_what_is_written_to_the_file_before_is_read_as_well(tmp_path: Path) -> None:
    one, other = Written(tmp_path / "7.log"), Written(tmp_path / "7.log")
    reader = LogReader(one.path)
    one.write("first\n")
    assert everything(reader) == b"first\n"
    rotate(one.path, ALL)
    one.reopen()
    one.write("new\n")
    assert everything(reader) == b"new\n"
    other.write("of a process that has not looked yet\n")
    one.write("newer\n")
    assert everything(reader) == b"of a process that has not looked yet\nnewer\n"
    reader.close()
    one.close()
    other.close()


def test_a_reader_that_is_left_behind_is_told_so_and_goes_on(tmp_path: Path) -> None:
    written = Written(tmp_path / "7.log")
    reader = LogReader(written.path)
    written.write("0\n")
    assert everything(reader) == b"0\n"
    for number in range(1, 8):
        rotate(written.path, Limits(1, 3))
        written.reopen()
        written.write(f"{number}\n")
    assert everything(reader) == b"[... 5 full files of this log were removed here ...]\n6\n7\n"
    reader.close()
    written.close()


def test_a_reader_goes_on_when_somebody_has_deleted_the_files(tmp_path: Path) -> None:
    written = Written(tmp_path / "7.log")
    reader = LogReader(written.path)
    for number in range(3):
        written.write(f"{number}\n")
        rotate(written.path, ALL)
        written.reopen()
    written.write("3\n")
    assert everything(reader) == b"0\n1\n2\n3\n"
    for path in (written.path, *(rotated_path(written.path, number) for number in rotated_numbers(written.path))):
        path.unlink()
    written.write("into a file without a name\n")
    written.reopen()
    written.write("4\n")
    assert everything(reader) == b"into a file without a name\n4\n"
    reader.close()
    written.close()


def test_a_character_that_comes_in_two_pieces_is_one(tmp_path: Path) -> None:
    path = tmp_path / "7.log"
    path.write_bytes("ö".encode()[:1])
    is_written = False

    def is_over() -> bool:
        nonlocal is_written
        if not is_written:
            is_written = True
            with path.open("ab") as file:
                file.write("ö".encode()[1:] + b"\xff")
            return False
        return True

    async def follow() -> str:
        return "".join([piece async for piece in follow_log(path, is_over)])

    assert asyncio.run(follow()) == "ö\ufffd"


@pytest.mark.parametrize("tail", [None, 0, 3])
def test_of_a_log_that_nobody_has_written_there_is_nothing(tmp_path: Path, tail: int | None) -> None:
    assert read_log(tmp_path / "7.log", tail) == ""


def test_the_last_lines_and_on_is_what_comes_from_there(tmp_path: Path) -> None:
    written = Written(tmp_path / "7.log")
    written.write("1\n2\n")
    rotate(written.path, ALL)
    written.reopen()
    written.write("3\n")
    two, none = LogReader(written.path, 2), LogReader(written.path, 0)
    written.write("4\n")
    assert (everything(two), everything(none)) == (b"2\n3\n4\n", b"4\n")
    two.close()
    none.close()
    written.close()
