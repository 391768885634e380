"""The lines of a file that a model is asked about: decoded and numbered as rows are."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.abi.error import BadInput
from llmos.cli.ask import inputs_of


def lines(folder: Path, data: bytes) -> list[tuple[int, str]]:
    path = folder / "lines.txt"
    path.write_bytes(data)
    return [(one.line, one.data) for one in inputs_of("classify", [], path)]


def test_lines_end_at_lf_alone_and_keep_their_numbers(tmp_path: Path) -> None:
    data = "one\u2028still one\n\ntwo\x85\x0b\x0cstill two\r\nthree".encode()
    assert lines(tmp_path, data) == [(1, "one\u2028still one"), (3, "two\x85\x0b\x0cstill two"), (4, "three")]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_mark_is_no_text_and_other_encodings_are_read(tmp_path: Path, codec: str) -> None:
    assert lines(tmp_path, "un café\nl’été\n".encode(codec)) == [(1, "un café"), (2, "l’été")]


def test_bytes_of_no_plain_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        lines(tmp_path, b"\x81\x8d\xff\xfe\x9d\n")
