"""Which llmos may run on a home: the one that last ran there, and every later one."""

import pytest

from llmos.abi.error import Conflict, Corrupt
from llmos.kernel.home_format import FORMAT, PAGE, HomeFormat, check_format, mark_format, read_format
from llmos.testing.errors import fails_with


def test_a_home_of_before_there_were_formats_is_taken_and_marked(tmp_path):
    check_format(tmp_path, "1.0")
    assert read_format(tmp_path) is None
    mark_format(tmp_path, "1.0")
    assert read_format(tmp_path) == HomeFormat(FORMAT, "1.0")
    assert (tmp_path / PAGE).stat().st_mode & 0o111 == 0


def test_a_home_of_a_later_llmos_is_refused_by_a_sentence_with_both_versions(tmp_path):
    (tmp_path / PAGE).write_text(f'{{"format": {FORMAT + 1}, "version": "9.8", "more": 1}}')
    with fails_with(Conflict, reason="newer_home", format=FORMAT + 1) as failure:
        check_format(tmp_path, "1.0")
    assert {"9.8", "1.0"} <= set(failure.value.message.replace(",", " ").replace(";", " ").split())


def test_a_later_version_of_the_same_format_is_no_obstacle(tmp_path):
    mark_format(tmp_path, "9.8")
    check_format(tmp_path, "1.0")
    mark_format(tmp_path, "1.0")
    assert read_format(tmp_path) == HomeFormat(FORMAT, "1.0")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format": "x", "version": ""}'])
def test_a_page_that_cannot_be_read_stops_the_start(tmp_path, content):
    (tmp_path / PAGE).write_bytes(content)
    with fails_with(Corrupt, path=str(tmp_path / PAGE)):
        check_format(tmp_path, "1.0")


def test_a_page_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    (tmp_path / PAGE).mkdir()
    with fails_with(Corrupt):
        read_format(tmp_path)
    mark_format(tmp_path / "gone", "1.0")
    assert "is not written" in caplog.text
